# Fields of records: what a key is, what a value says, where the fields of one record stand. Header-only, so that what
# reads events inlines them; _scan.pxd has the leaves below, which know bytes and lines only.
#
# As there: a Span borrows, leaves are noexcept nogil.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcmp

from audito._fastparse cimport TYPE_PROCTITLE, TYPE_SYSCALL
from audito._scan cimport (
    Span, digits, ends_text, field_end, further, hex_digit, is_hex, is_tail_mark, load8, next_field, same_bytes, span_int,
    span_is, span_of,
)
from audito._sessions cimport Record, record_body

cdef extern from *:
    """
    #define NO_INT INT64_MIN
    """
    const int64_t NO_INT            # what signed_int() gives where there is no number

cdef enum:
    TYPE_USER_LOGIN = 1112
    TYPE_USER_CMD = 1123
    TYPE_USER_TTY = 1124
    TYPE_TTY = 1319
    TYPE_SECCOMP = 1326
    TYPE_AVC = 1400
    ARG_WHOLE = -1                  # what arg_key() says beside the number of a part
    ARG_LENGTH = -2

cdef enum:                          # KnownField: fields that have a place of their own: no search for them
    F_NONE
    F_PID
    F_PPID
    F_AUID
    F_UID
    F_EUID
    F_ARCH
    F_SYSCALL
    F_EXIT
    F_COMM
    F_EXE
    F_KEY
    F_CWD
    F_ADDED_UID                     # UID="root": names that auditd adds in ENRICHED format
    F_ADDED_EUID
    F_MAIN_ONLY                     # from here on only the main record's count
    F_SUCCESS
    F_RES
    F_SES
    F_KNOWN_MAX


cdef struct PathFields:             # what of a PATH record is asked for, quotes and all
    Span name
    Span mode
    Span nametype


cdef inline int known_field(Span key) noexcept nogil:
    # Which KnownField a key is.
    cdef const char *k = <const char *>key.ptr
    if key.len == 3:
        if memcmp(k, b"pid", 3) == 0:
            return F_PID
        if memcmp(k, b"uid", 3) == 0:
            return F_UID
        if memcmp(k, b"exe", 3) == 0:
            return F_EXE
        if memcmp(k, b"key", 3) == 0:
            return F_KEY
        if memcmp(k, b"cwd", 3) == 0:
            return F_CWD
        if memcmp(k, b"res", 3) == 0:
            return F_RES
        if memcmp(k, b"ses", 3) == 0:
            return F_SES
        if memcmp(k, b"UID", 3) == 0:
            return F_ADDED_UID
    elif key.len == 4:
        if memcmp(k, b"ppid", 4) == 0:
            return F_PPID
        if memcmp(k, b"auid", 4) == 0:
            return F_AUID
        if memcmp(k, b"euid", 4) == 0:
            return F_EUID
        if memcmp(k, b"arch", 4) == 0:
            return F_ARCH
        if memcmp(k, b"exit", 4) == 0:
            return F_EXIT
        if memcmp(k, b"comm", 4) == 0:
            return F_COMM
        if memcmp(k, b"EUID", 4) == 0:
            return F_ADDED_EUID
    elif key.len == 7:
        if memcmp(k, b"syscall", 7) == 0:
            return F_SYSCALL
        if memcmp(k, b"success", 7) == 0:
            return F_SUCCESS
    return F_NONE


cdef inline bint is_kernels(int known) noexcept nogil:
    # Whether the kernel writes this field in front of each message of a program.
    return known == F_PID or known == F_AUID or known == F_UID or known == F_SES


cdef inline Span without_mark(Span key) noexcept nogil:
    # `#035UID`: rsyslog's mark, where it follows a quote.
    return span_of(key.ptr + 4, key.len - 4) if key.len > 4 and is_tail_mark(key.ptr, key.ptr + key.len) else key


cdef inline Span lower_key(Span key) noexcept nogil:
    # The longest end of a key that is [a-z0-9_-]: `x.pid` is pid, `UID` is none. go-libaudit reads keys so.
    cdef Py_ssize_t i = key.len
    cdef uint8_t c
    while i > 0:
        c = key.ptr[i - 1]
        if not (c'a' <= c <= c'z' or c'0' <= c <= c'9' or c == c'_' or c == c'-'):
            break
        i -= 1
    return span_of(key.ptr + i, key.len - i)


cdef inline Span stripped(Span value) noexcept nogil:
    # Without the quotes and blanks at both ends, any number of them.
    while value.len and (value.ptr[0] == c'"' or value.ptr[0] == c"'" or value.ptr[0] == c' '):
        value = span_of(value.ptr + 1, value.len - 1)
    while value.len and (value.ptr[value.len - 1] == c'"' or value.ptr[value.len - 1] == c"'"
                         or value.ptr[value.len - 1] == c' '):
        value.len -= 1
    return value


cdef inline bint says_nothing(Span value) noexcept nogil:
    return value.len == 0 or span_is(value, b"?", 1) or span_is(value, b"?,", 2) or span_is(value, b"(null)", 6)


cdef inline bint same_key(Span key, Span name) noexcept nogil:
    # `old auid` and `new auid` of old LOGIN records count as old_auid and new_auid.
    cdef Py_ssize_t i
    if key.len != name.len:
        return False
    for i in range(key.len):
        if key.ptr[i] != name.ptr[i] and not (key.ptr[i] == c' ' and name.ptr[i] == c'_'):
            return False
    return True


cdef inline bint same_text(Span a, Span b) noexcept nogil:
    return a.len == b.len and same_bytes(a.ptr, b.ptr, a.len)


cdef inline bint is_upper_hex(Span s) noexcept nogil:
    # As is_hex, in the upper case that the kernel writes: `deadbeef` is a name.
    cdef Py_ssize_t i
    if not is_hex(s):
        return False
    for i in range(s.len):
        if c'a' <= s.ptr[i] <= c'f':
            return False
    return True


cdef inline bint same_letters(Span s, const char *lower, Py_ssize_t count) noexcept nogil:
    # Whether the first `count` letters of s are these, in either case.
    cdef Py_ssize_t i
    for i in range(count):
        if (s.ptr[i] | 0x20) != <uint8_t>lower[i]:
            return False
    return True


cdef inline bint is_simple(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    # ASCII without a backslash; eight bytes at a time. x ^ "\\\\…" has a zero byte where x has a backslash.
    cdef uint64_t word, other
    cdef uint64_t bad = 0
    while len >= 8:
        word = load8(p)
        other = word ^ 0x5C5C5C5C5C5C5C5CULL
        bad |= (word | ((other - 0x0101010101010101ULL) & ~other)) & 0x8080808080808080ULL
        p += 8
        len -= 8
    while len:
        bad |= <uint64_t>(p[0] >= 0x80 or p[0] == c'\\')
        p += 1
        len -= 1
    return bad == 0


cdef inline bint is_ascii(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    cdef uint8_t bits = 0
    cdef Py_ssize_t i
    for i in range(len):
        bits |= p[i]
    return bits < 0x80


cdef inline bint is_octal(Span s) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(s.len):
        if not c'0' <= s.ptr[i] <= c'7':
            return False
    return s.len > 0


cdef inline bint is_id_key(Span key) noexcept nogil:
    return ends_text(key, b"uid", 3) or ends_text(key, b"gid", 3)


cdef inline bint needs_decoding(Span key, uint16_t type, bint exact) noexcept nogil:
    # Whether bare upper-case hex is an encoded text in this field. `exact`: only where go-libaudit decodes it.
    if span_is(key, b"cwd", 3):
        return True
    if span_is(key, b"exe", 3):
        return not exact or type == TYPE_SYSCALL or type == TYPE_SECCOMP
    if span_is(key, b"proctitle", 9):
        return not exact or type == TYPE_PROCTITLE
    if span_is(key, b"cmd", 3):
        return not exact or type == TYPE_USER_CMD
    if span_is(key, b"data", 4):
        return not exact or type == TYPE_TTY or type == TYPE_USER_TTY
    if span_is(key, b"acct", 4):
        return not exact or type == TYPE_USER_LOGIN
    if span_is(key, b"comm", 4) or span_is(key, b"name", 4):
        return not exact
    return False


cdef inline Span record_field(Record *record, const char *name, Py_ssize_t len) noexcept nogil:
    # The raw value of one field of a record, len 0 and ptr NULL without it.
    cdef Span body = record_body(record)
    cdef const uint8_t *p = body.ptr
    cdef Span key
    cdef Span value
    while next_field(&p, body.ptr + body.len, &key, &value):
        if span_is(key, name, len):
            return value
    return span_of(NULL, 0)


cdef inline const uint8_t *value_further(const uint8_t *p, const uint8_t *end, const char *name, size_t len,
                                         Py_ssize_t skip, Span *value) noexcept nogil:
    # The value of such a field, which begins so many bytes behind its blank, and where it ends; none and p without it.
    cdef const uint8_t *q = further(p, end, name, len)
    if q is NULL or end - q < skip:
        value[0] = span_of(NULL, 0)
        return p
    p = field_end(q + skip, end)
    value[0] = span_of(q + skip, p - q - skip)
    return p


cdef inline void read_path(Record *record, PathFields *path) noexcept nogil:
    # `item= name= inode= dev= mode= ouid= ogid= rdev= obj= nametype= cap_fp=…`: in this order, whatever a kernel leaves
    # out or adds.
    cdef Span body = record_body(record)
    cdef const uint8_t *p = body.ptr
    cdef const uint8_t *end = body.ptr + body.len
    p = value_further(p, end, b" name=", 6, 6, &path.name)
    p = value_further(p, end, b" mode=", 6, 6, &path.mode)
    value_further(p, end, b" nametyp", 8, 10, &path.nametype)


cdef inline int64_t signed_int(Span s) noexcept nogil:
    # A decimal number that may be negative, NO_INT when it is none.
    cdef int64_t value
    if s.len > 1 and s.ptr[0] == c'-':
        value = span_int(span_of(s.ptr + 1, s.len - 1))
        return -value if value >= 0 else NO_INT
    value = span_int(s)
    return value if value >= 0 else NO_INT


cdef inline int64_t hex_value(Span s) noexcept nogil:
    # A hexadecimal number of up to 8 digits, -1 when it is none.
    cdef int64_t value = 0
    cdef Py_ssize_t i
    if s.len < 1 or s.len > 8:
        return -1
    for i in range(s.len):
        if hex_digit(s.ptr[i]) < 0:
            return -1
        value = value << 4 | hex_digit(s.ptr[i])
    return value


cdef inline bint arg_key(Span key, int64_t *index, int64_t *part) noexcept nogil:
    # aN → (N, ARG_WHOLE), aN_len → (N, ARG_LENGTH), aN[i] → (N, i); False for any other key.
    cdef const uint8_t *p = key.ptr + 1
    cdef const uint8_t *end = key.ptr + key.len
    if key.len < 2 or key.ptr[0] != c'a':
        return False
    index[0] = digits(&p, end, 9)
    if index[0] < 0:
        return False
    part[0] = ARG_WHOLE
    if p == end:
        return True
    part[0] = ARG_LENGTH
    if end - p == 4 and memcmp(p, b"_len", 4) == 0:
        return True
    if p[0] != c'[':
        return False
    p += 1
    part[0] = digits(&p, end, 9)
    return part[0] >= 0 and p + 1 == end and p[0] == c']'
