# Whose a record is: the session, the process and the program that it names. Header-only, so that the stream inlines it.
#
# As in _scan.pxd: a Span borrows, leaves are noexcept nogil.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from audito._scan cimport (
    SES_UNSET, Span, ends_text, further, load8, next_field, span_int, span_is, span_of, unquoted, without_tail,
)
from audito._sessions cimport Record, record_line

cdef extern from "string.h" nogil:
    void *memmem(const void *haystack, size_t haystack_len, const void *needle, size_t needle_len)

cdef enum:
    NO_SES = -1                     # read_ses(): the record does not say whose session it is
    HINT_REACH = 16                 # how far ` ses=` strays from where it was: ids have one to ten digits …
    HINT_FAR = 96                   # … and the arguments of a syscall up to 16 each


cdef inline Span basename(Span path) noexcept nogil:
    cdef Py_ssize_t i = path.len
    while i > 0 and path.ptr[i - 1] != c'/':
        i -= 1
    return span_of(path.ptr + i, path.len - i)


cdef inline bint is_sshd_hex(Span program) noexcept nogil:
    # "/sshd (deleted)", "/sshd-session (deleted)", "/sshd-auth (deleted)" as the kernel writes them in hex.
    return (ends_text(program, b"2F73736864202864656C6574656429", 30)
            or ends_text(program, b"2F737368642D73657373696F6E202864656C6574656429", 46)
            or ends_text(program, b"2F737368642D61757468202864656C6574656429", 40))


cdef inline bint is_sshd(Span program) noexcept nogil:
    # sshd; sshd-session and sshd-auth since 9.8. A replaced binary reads `/usr/sbin/sshd (deleted)`,
    # which the kernel writes in hex because of the blank: unhex(" (deleted)") ends it.
    cdef Span name = basename(unquoted(program))
    if span_is(name, b"sshd", 4) or span_is(name, b"sshd-session", 12) or span_is(name, b"sshd-auth", 9):
        return True
    return is_sshd_hex(unquoted(program))


cdef inline uint32_t ses_value(Span s) noexcept nogil:
    # A session number; `unset`, `-1`, 4294967295 and anything that is no number are SES_UNSET.
    cdef int64_t value = span_int(s)
    if value < 0:
        value = span_int(without_tail(s, False))
    return <uint32_t>value if 0 <= value < <int64_t>SES_UNSET else SES_UNSET


cdef inline const uint8_t *near(Span body, Py_ssize_t hint) noexcept nogil:
    # ` ses=` about where the hint says, the nearest places first; NULL where it is further than HINT_REACH.
    cdef const uint8_t *at = body.ptr + hint
    cdef uint64_t word = 0
    cdef uint64_t mask = 0
    cdef Py_ssize_t i
    memcpy(&word, b" ses=", 5)
    memset(&mask, 0xFF, 5)
    if hint < HINT_REACH or hint + HINT_REACH + 8 > body.len:
        return NULL
    for i in range(HINT_REACH):
        if load8(at + i) & mask == word:
            return at + i
        if load8(at - i) & mask == word:
            return at - i
    return NULL


cdef inline const uint8_t *ses_of_kernel(Span body, Py_ssize_t hint) noexcept nogil:
    # ` ses=` in a record of the kernel, NULL without it. No user text there can hold a blank, so wherever it stands it is
    # the kernel's: first looked for about where the last record had it (30 ns less than a search from the start), then
    # from a little before that.
    cdef const uint8_t *p = near(body, hint)
    if p is NULL and HINT_REACH < hint < body.len:
        p = further(body.ptr + max(hint - HINT_FAR, 0), body.ptr + body.len, b" ses=", 5)
    return <const uint8_t *>memmem(body.ptr, <size_t>body.len, b" ses=", 5) if p is NULL else p


cdef inline int64_t read_ses(Span body, bint kernel_record, Py_ssize_t *hint) noexcept nogil:
    # The `ses=` that the kernel wrote, SES_UNSET among them; NO_SES where the record has none.
    # In a message of a program everything from `msg=` on is that program's own text and is not looked at.
    cdef const uint8_t *p
    cdef const uint8_t *end = body.ptr + body.len
    cdef const uint8_t *limit
    if kernel_record:
        p = ses_of_kernel(body, hint[0])
    else:
        limit = <const uint8_t *>memmem(body.ptr, <size_t>body.len, b"msg=", 4)
        if limit is not NULL:
            end = limit
        p = <const uint8_t *>memmem(body.ptr, <size_t>(end - body.ptr), b" ses=", 5)
    if p is not NULL:
        if kernel_record:
            hint[0] = p - body.ptr
        p += 5
    elif end - body.ptr > 4 and memcmp(body.ptr, b"ses=", 4) == 0:
        p = body.ptr + 4
    else:
        return NO_SES
    limit = p
    while limit < end and limit[0] > c' ':
        limit += 1
    return ses_value(span_of(p, limit - p))


cdef inline const uint8_t *glued(Span body) noexcept nogil:
    # Where another record begins in the midst of a kernel record, the last one of several, NULL: nowhere. A log that was
    # cut inside of a line goes on behind the cut; no text of a kernel record holds a blank, so that this is no user's.
    # By the parenthesis, of which there are few: memmem() takes 3 % of what an event costs.
    cdef const uint8_t *end = body.ptr + body.len
    cdef const uint8_t *stamp = NULL
    cdef const uint8_t *p = <const uint8_t *>memchr(body.ptr, c'(', <size_t>body.len)
    while p is not NULL:
        if p - body.ptr >= 10 and memcmp(p - 10, b" msg=audit", 10) == 0:
            stamp = p - 10
        p = <const uint8_t *>memchr(p + 1, c'(', <size_t>(end - p - 1))
    if stamp is NULL:
        return NULL
    p = stamp
    while p > body.ptr and (p - 1)[0] > c' ':
        p -= 1
        if stamp - p > 5 and memcmp(p, b"type=", 5) == 0:
            return p
    return stamp


cdef inline int32_t pid_value(Span s) noexcept nogil:
    # A pid, 0 when it is none.
    cdef int64_t value = span_int(s)
    return <int32_t>value if 0 < value < 0x7FFFFFFF else 0


cdef struct LoginRecord:            # what a LOGIN record says
    uint32_t ses
    uint32_t old_ses
    int32_t pid
    bint succeeded


cdef inline void read_login(Span body, LoginRecord *login) noexcept nogil:
    # `pid=… old-auid=… auid=… old-ses=… ses=N res=1`; up to kernel 3.13 `login pid=… old ses=… new ses=N`:
    # there the key `ses` stands twice, the last one is the new session.
    # Since 3.14 `res` stands at the end: what has none was cut, and goes on as another record, and so may auditd's own words.
    cdef const uint8_t *p = body.ptr
    cdef const uint8_t *own = <const uint8_t *>memchr(body.ptr, 0x1D, <size_t>body.len)
    cdef const uint8_t *end = body.ptr + body.len if own is NULL else own
    cdef Span key
    cdef Span value
    cdef bint whole = True
    login.ses = login.old_ses = SES_UNSET
    login.pid = 0
    login.succeeded = True
    while next_field(&p, end, &key, &value):
        if span_is(key, b"ses", 3):
            login.ses = ses_value(value)
            if key.ptr - 4 >= body.ptr and memcmp(key.ptr - 4, b"old ", 4) == 0:
                login.old_ses = login.ses
        elif span_is(key, b"old-ses", 7):
            login.old_ses = ses_value(value)
        elif span_is(key, b"old-auid", 8):
            whole = False
        elif span_is(key, b"pid", 3) and login.pid == 0:
            login.pid = pid_value(value)
        elif span_is(key, b"res", 3):
            login.succeeded = not span_is(without_tail(value, False), b"0", 1)
            whole = True
    if not whole:
        login.ses = login.old_ses = SES_UNSET


cdef inline bint is_channel(Record *record) noexcept nogil:
    # USER_END op=login: RHEL's sshd sends one for each channel; the session goes on.
    return memmem(record_line(record), record.len, b"op=login ", 9) is not NULL


cdef struct Actor:                  # which process a record is about
    int32_t pid
    Span exe                        # as written, len 0 without one
    Span comm


cdef inline void read_actor(Span body, Actor *actor) noexcept nogil:
    # pid, exe and comm of a record. In a program's message pid is the kernel's and stands before msg=';
    # exe is what libaudit put into the message, so it counts only together with the pid.
    cdef const uint8_t *p = body.ptr
    cdef const uint8_t *end = body.ptr + body.len
    cdef Span key
    cdef Span value
    actor.pid = 0
    actor.exe = actor.comm = span_of(body.ptr, 0)
    while next_field(&p, end, &key, &value):
        if span_is(key, b"pid", 3) and actor.pid == 0:
            actor.pid = pid_value(value)
        elif span_is(key, b"exe", 3):
            actor.exe = value
        elif span_is(key, b"comm", 4):
            actor.comm = value
        elif span_is(key, b"msg", 3) and value.len > 1 and value.ptr[0] == c"'":
            p = value.ptr + 1       # read on inside the message
