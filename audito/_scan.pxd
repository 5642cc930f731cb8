# Leaves of the record parser: header-only, so that every module that cimports them inlines them.
# Wire structs (what a line looks like) stand here; structs with a life of their own in _fastparse.pxd.
#
# A Span borrows: it points into bytes that somebody else owns and is valid for the call that made it.
# Leaves are noexcept nogil, take pointers and ints, and return a count or a negative ScanError.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

cdef extern from *:
    """
    #define LITTLE_ENDIAN_HOST (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
    #define trailing_zeros(word) __builtin_ctzll(word)
    """
    const bint LITTLE_ENDIAN_HOST
    int trailing_zeros(uint64_t word) nogil

cdef enum ScanError:
    SCAN_NOT_A_RECORD = -1      # no `type=` and the name of a type at the start of the line
    SCAN_BAD_STAMP = -2         # no `audit(SECONDS.MILLIS:SEQUENCE)` where it belongs

cdef enum:
    SES_UNSET = 0xFFFFFFFF      # (unsigned)-1: the kernel's "no audit session" and "no loginuid"
    TYPE_NAME_BYTES_MAX = 40    # the longest name auditd prints is 24 bytes; UNKNOWN[65535] is 14


cdef struct Span:
    const uint8_t *ptr
    Py_ssize_t len


cdef struct Header:
    uint64_t ts_ms              # record time, ms since the epoch: stamped at syscall entry, not monotonic
    uint32_t seq                # the kernel's serial; wraps at 2**32 and starts again at boot
    uint32_t node               # hash of `node=`, 0 without one: aggregators interleave hosts
    Span name                   # the record type as written: `SYSCALL`, `UNKNOWN[1334]`, `1300`
    uint32_t text               # offset of `type=` in the line
    uint32_t stamp              # offset of `msg=audit(`
    uint32_t stamp_len          # through the `)`
    uint32_t body               # offset of the first byte after `): `


cdef inline Span span_of(const uint8_t *ptr, Py_ssize_t len) noexcept nogil:
    cdef Span s
    s.ptr = ptr
    s.len = len
    return s


cdef inline bint span_is(Span s, const char *text, Py_ssize_t len) noexcept nogil:
    return s.len == len and memcmp(s.ptr, text, <size_t>len) == 0


cdef inline bint span_starts(Span s, const char *text, Py_ssize_t len) noexcept nogil:
    return s.len >= len and memcmp(s.ptr, text, <size_t>len) == 0


cdef inline bint ends_text(Span s, const char *text, Py_ssize_t len) noexcept nogil:
    return s.len >= len and memcmp(s.ptr + s.len - len, text, <size_t>len) == 0


cdef inline uint8_t lower(uint8_t c) noexcept nogil:
    # An ASCII letter in lower case, any other byte as it is.
    return <uint8_t>(c | 0x20) if c'A' <= c <= c'Z' else c


cdef inline uint32_t span_hash(Span s) noexcept nogil:
    # FNV-1a, never 0: 0 says "none" wherever a hash is kept.
    cdef uint32_t h = 2166136261u
    cdef Py_ssize_t i
    for i in range(s.len):
        h = (h ^ s.ptr[i]) * 16777619u
    return h if h else 1u


cdef inline Py_ssize_t span_find(Span s, uint8_t c, Py_ssize_t start) noexcept nogil:
    # Index of c in s at or after start, or -1.
    cdef const uint8_t *p
    if start >= s.len:
        return -1
    p = <const uint8_t *>memchr(s.ptr + start, c, <size_t>(s.len - start))
    return -1 if p is NULL else p - s.ptr


cdef inline uint64_t load8(const uint8_t *p) noexcept nogil:
    # Eight bytes from anywhere; one instruction.
    cdef uint64_t value
    memcpy(&value, p, 8)
    return value


cdef inline uint64_t load_short(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    # Up to eight bytes as a number that no other ones of that length have. From two loads that overlap: after a memcpy of
    # so many bytes the load of all eight waits for its store (three of five samples of AuditStream.type_number()).
    cdef uint32_t first = 0
    cdef uint32_t last = 0
    if len >= 4:
        memcpy(&first, p, 4)
        memcpy(&last, p + len - 4, 4)
    elif len >= 2:
        memcpy(&first, p, 2)
        memcpy(&last, p + len - 2, 2)
    elif len == 1:
        first = p[0]
    return first | <uint64_t>last << 32


cdef inline bint same_bytes(const uint8_t *p, const uint8_t *q, Py_ssize_t len) noexcept nogil:
    # memcmp() == 0 for texts that are short as a rule, without a call. Of eight bytes or more the last ones come first:
    # there two stamps differ.
    cdef Py_ssize_t i
    if len < 8:
        return load_short(p, len) == load_short(q, len)
    if load8(p + len - 8) != load8(q + len - 8):
        return False
    for i in range(0, len - 8, 8):
        if load8(p + i) != load8(q + i):
            return False
    return True


# Which of eight bytes are below a limit of at most 0x80, or are one byte: the high bit of each of these is set, and perhaps
# of some behind the first one, which the subtraction borrowed from. Of two such results joined the first one is right, too.


cdef inline uint64_t below(uint64_t word, uint8_t limit) noexcept nogil:
    return (word - limit * 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL


cdef inline uint64_t equal(uint64_t word, uint8_t c) noexcept nogil:
    return below(word ^ c * 0x0101010101010101ULL, 1)


cdef inline const uint8_t *byte_at(const uint8_t *p, const uint8_t *end, uint8_t c) noexcept nogil:
    # memchr() for what is near as a rule, without a call; NULL: it is not there.
    cdef uint64_t found
    if LITTLE_ENDIAN_HOST:
        while end - p >= 8:
            found = equal(load8(p), c)
            if found:
                return p + (trailing_zeros(found) >> 3)
            p += 8
    while p < end:
        if p[0] == c:
            return p
        p += 1
    return NULL


cdef inline int64_t eight_digits(uint64_t word) noexcept nogil:
    # The number of eight digits, each of them a byte of its value, the first one the lowest.
    word = word * 10 + (word >> 8)                  # pairs, in every other byte
    return <int64_t>(((word & 0x000000FF000000FFULL) * 0x000F424000000064ULL
                      + (word >> 16 & 0x000000FF000000FFULL) * 0x0000271000000001ULL) >> 32)


cdef inline int64_t digits(const uint8_t **cursor, const uint8_t *end, int count_max) noexcept nogil:
    # A decimal number of 1..count_max digits at the cursor, which moves behind it; -1 when there is none.
    # count_max of 18 or less cannot overflow.
    cdef const uint8_t *start = cursor[0]
    cdef const uint8_t *p = start
    cdef const uint8_t *stop = p + count_max if end - p > count_max else end
    cdef int64_t value = 0
    cdef uint8_t digit
    while p < stop:
        digit = <uint8_t>(p[0] - c'0')
        if digit > 9:
            break
        value = value * 10 + digit
        p += 1
    cursor[0] = p
    return value if p != start else -1


cdef inline int64_t digits_8(const uint8_t **cursor, const uint8_t *end, int count_max) noexcept nogil:
    # digits() of what has eight or more as a rule, and count_max no less: these in one step. A number in the header of
    # a line takes a third of the instructions.
    cdef const uint8_t *p = cursor[0]
    cdef uint64_t word
    cdef uint64_t others
    cdef int n
    cdef int64_t value
    if not LITTLE_ENDIAN_HOST or end - p < 8:
        return digits(cursor, end, count_max)
    word = load8(p) ^ 0x3030303030303030ULL
    # The high bit of the first byte that is no digit, and perhaps of some behind it: 10 + 0x76 is 0x80.
    others = (word + 0x7676767676767676ULL | word) & 0x8080808080808080ULL
    if others:
        n = trailing_zeros(others) >> 3
        if n == 0:
            return -1
        cursor[0] = p + n
        return eight_digits(word << 8 * (8 - n))
    value = eight_digits(word)
    p += 8
    end = p + count_max - 8 if end - p > count_max - 8 else end
    while p < end and <uint8_t>(p[0] - c'0') <= 9:
        value = value * 10 + (p[0] - c'0')
        p += 1
    cursor[0] = p
    return value


cdef inline int64_t span_int(Span s) noexcept nogil:
    # The whole span as a decimal number, or -1: a number that is negative, hex or cut counts as none.
    cdef const uint8_t *p = s.ptr
    cdef int64_t value = digits(&p, s.ptr + s.len, 18)
    return value if p == s.ptr + s.len else -1


cdef inline int hex_digit(uint8_t c) noexcept nogil:
    # Value of a hex digit, -1 for any other byte. The kernel writes upper case only; both are read.
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef inline bint is_hex(Span s) noexcept nogil:
    # An even number of hex digits, at least two: how the kernel writes text that needs encoding.
    cdef Py_ssize_t i
    if s.len < 2 or s.len & 1:
        return False
    for i in range(s.len):
        if hex_digit(s.ptr[i]) < 0:
            return False
    return True


cdef inline void unhex(Span s, uint8_t *out) noexcept nogil:
    # Decode s, which is_hex(), into s.len / 2 bytes that the caller owns.
    cdef Py_ssize_t i
    for i in range(s.len // 2):
        out[i] = <uint8_t>(hex_digit(s.ptr[2 * i]) << 4 | hex_digit(s.ptr[2 * i + 1]))


cdef inline int read_header(Span line, Header *h) noexcept nogil:
    # Read `[node=N ]type=NAME [msg=]audit(S.MS:SEQ): ` at the start of a line; 0, or a ScanError.
    cdef const uint8_t *p = line.ptr
    cdef const uint8_t *end = line.ptr + line.len
    cdef const uint8_t *q
    cdef int64_t number
    h.node = 0
    if line.len > 5 and memcmp(p, b"node=", 5) == 0:
        q = <const uint8_t *>memchr(p, c' ', <size_t>line.len)
        if q is NULL:
            return SCAN_NOT_A_RECORD
        h.node = span_hash(span_of(p + 5, q - p - 5))
        p = q + 1
    if end - p < 6 or memcmp(p, b"type=", 5) != 0:
        return SCAN_NOT_A_RECORD
    h.text = <uint32_t>(p - line.ptr)
    p += 5
    q = byte_at(p, p + min(end - p, <Py_ssize_t>TYPE_NAME_BYTES_MAX + 1), c' ')
    if q is NULL or q == p:
        return SCAN_NOT_A_RECORD
    h.name = span_of(p, q - p)
    p = q + 1
    h.stamp = <uint32_t>(p - line.ptr)
    if end - p > 4 and memcmp(p, b"msg=", 4) == 0:
        p += 4
    if end - p < 12 or memcmp(p, b"audit(", 6) != 0:
        return SCAN_BAD_STAMP
    p += 6
    number = digits_8(&p, end, 12)
    if number < 0 or p >= end or p[0] != c'.':
        return SCAN_BAD_STAMP
    h.ts_ms = <uint64_t>number * 1000
    p += 1
    number = digits(&p, end, 3)
    if number < 0 or p >= end or p[0] != c':':
        return SCAN_BAD_STAMP
    h.ts_ms += <uint64_t>number
    p += 1
    number = digits_8(&p, end, 10)
    if number < 0 or number > 0xFFFFFFFFLL or p >= end or p[0] != c')':
        return SCAN_BAD_STAMP
    h.seq = <uint32_t>number
    p += 1
    h.stamp_len = <uint32_t>(p - line.ptr) - h.stamp
    if p >= end or p[0] != c':':
        return SCAN_BAD_STAMP
    p += 1
    while p < end and p[0] == c' ':
        p += 1
    h.body = <uint32_t>(p - line.ptr)
    return 0


cdef inline bint is_type_name(Span name) noexcept nogil:
    # Whether a record type can be called so: capitals, digits and `_`, and the brackets of `UNKNOWN[1334]`.
    cdef Py_ssize_t i
    cdef uint8_t c
    for i in range(name.len):
        c = name.ptr[i]
        if not (c'A' <= c <= c'Z' or c'0' <= c <= c'9' or c == c'_' or c == c'[' or c == c']'):
            return False
    return True


cdef inline bint is_tail_mark(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # The 0x1D before the names that auditd adds (log_format = ENRICHED); rsyslog writes it as `#035`.
    return p[0] == 0x1D or (p[0] == c'#' and end - p >= 4 and memcmp(p, b"#035", 4) == 0)


cdef inline Span without_tail(Span value, bint encoded) noexcept nogil:
    # A bare value without the names that auditd adds behind it. Loggers that write their 0x1D as `#035`, or leave it
    # out, leave no blank there: `(null)#035ARCH=…`, `1UID=…`, `7AUID=…`. The first name is that of the record's first
    # field that has one; where `encoded`, hex digits stand before it in pairs: 0AUID= is 0A and UID=.
    cdef Py_ssize_t i = span_find(value, c'#', 0)
    cdef Span name
    if i > 0 and is_tail_mark(value.ptr + i, value.ptr + value.len):
        return span_of(value.ptr, i)
    i = span_find(value, c'=', 0)
    name = span_of(value.ptr, i)
    if i < 3 or not (ends_text(name, b"ID", 2) or ends_text(name, b"ARCH", 4) or ends_text(name, b"SADDR", 5)):
        return value
    if ends_text(name, b"SADDR", 5) or ends_text(name, b"FSUID", 5) or ends_text(name, b"OAUID", 5):
        return span_of(value.ptr, i - 5)
    if ends_text(name, b"ARCH", 4) or ends_text(name, b"OUID", 4) or (
            ends_text(name, b"AUID", 4) and not (encoded and i & 1)):
        return span_of(value.ptr, i - 4)
    return span_of(value.ptr, i - 3) if ends_text(name, b"UID", 3) else span_of(value.ptr, i - 2)


cdef inline const uint8_t *field_end(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # The first blank or control byte at or after p, or the end.
    cdef uint64_t found
    if LITTLE_ENDIAN_HOST:
        while end - p >= 8:
            found = below(load8(p), 0x21)
            if found:
                return p + (trailing_zeros(found) >> 3)
            p += 8
    while p < end and p[0] > c' ':
        p += 1
    return p


cdef inline const uint8_t *key_end(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # The first `=`, blank or control byte at or after p, or the end.
    cdef uint64_t word
    cdef uint64_t found
    if LITTLE_ENDIAN_HOST:
        while end - p >= 8:
            word = load8(p)
            found = below(word, 0x21) | equal(word, c'=')
            if found:
                return p + (trailing_zeros(found) >> 3)
            p += 8
    while p < end and p[0] > c' ' and p[0] != c'=':
        p += 1
    return p


cdef inline const uint8_t *bare_end(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # The first blank, control byte, quote or mark of auditd's names at or after p, or the end: of a value without quotes.
    cdef uint64_t word
    cdef uint64_t found
    while p < end:
        if LITTLE_ENDIAN_HOST and end - p >= 8:
            word = load8(p)
            found = below(word, 0x24) | equal(word, c"'")       # below: `!`, too
            if found == 0:
                p += 8
                continue
            p += trailing_zeros(found) >> 3
        if p[0] <= c' ' or p[0] == c'"' or p[0] == c"'" or (p[0] == c'#' and is_tail_mark(p, end)):
            break
        p += 1
    return p


cdef inline bint next_field(const uint8_t **cursor, const uint8_t *end, Span *key, Span *value) noexcept nogil:
    # The next `key=value` at the cursor, which moves behind it; False at the end.
    # A value is `"…"` or `'…'` through its closing quote, or everything up to the next blank or control byte: the
    # kernel's own quoting, which writes text that holds a `"`, a blank or a control byte in hex instead. Words without `=`
    # (`avc:  denied  { read }`) are passed over. The spans keep their quotes.
    cdef const uint8_t *p = cursor[0]
    cdef const uint8_t *start = p
    cdef const uint8_t *q
    while True:
        while p < end and p[0] <= c' ':
            p += 1
        if p >= end:
            cursor[0] = end
            return False
        if p[0] == c'#' and is_tail_mark(p, end):
            p += 4
        start = p
        p = key_end(p, end)
        if p < end and p[0] == c'=':
            if p != start:
                break
            p += 1
    key[0] = span_of(start, p - start)
    p += 1
    start = p
    if p < end and (p[0] == c'"' or p[0] == c"'"):
        q = <const uint8_t *>memchr(p + 1, p[0], <size_t>(end - p - 1))
        if q is not NULL:
            value[0] = span_of(start, q + 1 - start)
            cursor[0] = q + 1
            return True
    p = bare_end(p, end)
    value[0] = span_of(start, p - start)
    cursor[0] = p
    return True


cdef inline uint32_t ends_hash(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    # Of a text, from its first and last eight bytes, or all of a shorter one: 3 ns against 11 of FNV-1a. 24 bits.
    cdef uint64_t mix
    if len > 8:
        mix = load8(p) ^ load8(p + len - 8) * 0x9E3779B97F4A7C15ULL
    else:
        mix = load_short(p, len)
    return <uint32_t>((mix ^ <uint64_t>len) * 0x9E3779B97F4A7C15ULL >> 40)


cdef inline const uint8_t *further(const uint8_t *p, const uint8_t *end, const char *name, size_t len) noexcept nogil:
    # Where a field of the kernel's stands, at p or further on, given by the blank before it and its name, together at
    # most eight bytes; NULL without it. Only blanks are looked at: no value of the kernel's has one in it.
    cdef uint64_t word = 0
    cdef uint64_t mask = 0
    memcpy(&word, name, len)
    memset(&mask, 0xFF, len)
    while True:
        p = field_end(p, end)
        if end - p < 8:
            return NULL
        if load8(p) & mask == word:
            return p
        p += 1


cdef inline Span unquoted(Span s) noexcept nogil:
    # The span without the quotes around it, where it has them.
    if s.len >= 2 and (s.ptr[0] == c'"' or s.ptr[0] == c"'") and s.ptr[s.len - 1] == s.ptr[0]:
        return span_of(s.ptr + 1, s.len - 2)
    return s
