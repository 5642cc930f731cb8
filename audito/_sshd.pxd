# The line scanner of sshd's messages: every limit, struct and leaf. The .pyx has the bodies.
#
# Ownership: the caller of scan() owns the bytes read until it returns; the scanner owns a copy of an unfinished
# last line; spans point into either for the time of one line; everything Python gets is a copy.
# Leaves are noexcept nogil, take pointers and ints, and return NULL or a negative code when there is no match.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from audito._scan cimport Span, digits, hex_digit, load8, span_of

cdef enum:
    LINE_BYTES_MAX = 8192       # sshd's own limit is 500 for syslog, 1,024 for -E; envelopes come on top
    JSON_BYTES_MAX = 65536      # a journal entry as JSON has some 30 fields around its message
    FIELDS_MAX = 16             # of a row; tables/sshd.py checks it
    HEAD_WORDS = 4              # of eight bytes: as much of a message's beginning is looked at before it is read
    FREE_MAX = 4                # free fields of a row; likewise
    ADDR_BYTES_MAX = 64         # 39 for IPv6, with an interface's name of 15, fits
    REPEAT_MAX = 1024           # events for one "message repeated N times"; more are counted, not written
    SAMPLES_MAX = 64            # lines not read that one scan hands over when nobody asked for all of them
    VERBOSE_BYTES_MAX = 128     # of a file's and a function's name, 48 each, with a line number
    BARE_LINES = 64             # that have an envelope, in a row, before a stream that had lines without is believed
    MESSAGE_BYTES = 500         # log.c's "%.500s": a message of this length may have been longer
    STDERR_BYTES_MIN = 1000     # sshd -E cuts at a buffer of 1,024 instead
    BUCKETS = 256               # of the index by a message's first four bytes; a power of two
    PID_MAX = 4194304           # the kernel's PID_MAX_LIMIT: a greater number is no pid

cdef enum Kind:
    KIND_LITERAL = 0
    KIND_ADDR = 1
    KIND_HOST = 2
    KIND_PORT = 3
    KIND_INT = 4
    KIND_DECIMAL = 5
    KIND_WORD = 6
    KIND_TYPE = 7
    KIND_FP = 8
    KIND_METHOD = 9
    KIND_GSSAPI = 10
    KIND_PROTO = 11
    KIND_NAME = 12

cdef enum Form:
    FORM_PIPE = 0               # PID MESSAGE
    FORM_SYSLOG = 1             # RFC 3164, ISO 8601, RFC 5424; or bare, as sshd -E writes it
    FORM_JOURNAL = 2            # REALTIME_USEC PID TRUST MESSAGE
    FORM_JSON = 3               # journalctl -o json
    FORM_AUTO = 4               # not decided yet

cdef enum Cut:
    CUT_NONE = 0
    CUT_TAIL = 1                # at sshd's limit, the last free field takes all that is there
    CUT_ONLY = 2                # the variant is for lines at that limit and no others
    CUT_OPEN = 3                # the beginning of another row, for lines cut elsewhere

cdef enum Turn:                 # variants of a turn are tried when those of the turns before read nothing
    TURN_FIRST = 0
    TURN_CUT = 1                # for cut lines and no others
    TURN_LAST = 2               # of rows in general terms
    TURN_FIELD = 3              # that begin with a field: a message that begins as one of sshd's is that one …
    TURN_FIELD_LAST = 4         # … and no text inside of it makes it another
    TURNS = 5

cdef enum Flag:
    FLAG_TIMED = 1              # the line carried a time of its own
    FLAG_TRUSTED = 2            # the transport vouches for it
    FLAG_CUT = 4                # read as a line that sshd cut
    FLAG_AMBIGUOUS = 8          # it reads in two ways, and what stands in doubt was left out
    FLAG_SESSION = 32           # a login's user wrote it, in the audit session whose number stands for the pid
    FLAG_UNESCAPED = 16         # as it went to standard error: sshd leaves line ends in it, so a peer may have said it

cdef enum Reject:               # why a line gave nothing; negative, as leaves return it
    REJECT_BLANK = -1
    REJECT_OTHER = -2           # another program's line in a syslog file
    REJECT_ENVELOPE = -3        # neither time nor tag where there have to be some
    REJECT_LONG = -4
    REJECT_UNMATCHED = -5       # sshd's, and no row knows it
    REJECT_DEBUG = -6           # sshd's own debugging
    REJECT_FORGED = -7          # a journal entry that is not sshd's own


# One step of a segment: a literal, or a strict field of the row.
cdef struct Step:
    uint8_t kind
    int8_t field                # -1 for a literal
    uint16_t len
    const uint8_t *text         # of a literal; lives as long as the scanner


cdef struct Segment:
    Step *steps
    int32_t count


# A message at a glance. Bytes below 64 are blanks, digits and all signs but @ [ \ ] ^ _ ` { | } ~.
cdef struct Glance:
    uint64_t head[HEAD_WORDS]   # its first bytes, 0 past its end
    uint64_t signs              # a bit for each byte below 64 that is in it


# One reading of a row: segment, free field, segment, …, segment.
cdef struct Variant:
    Variant *next               # in its bucket, in the order of the rows
    uint64_t signs              # of its literals: what a message must have that it reads whole
    uint64_t head[HEAD_WORDS]   # the first bytes of its first literal …
    uint64_t head_mask[HEAD_WORDS]  # … and where there are some, 0xFF for each
    uint16_t row
    uint8_t known               # a bit for each free field that is no peer's to choose: it ends at the first place
    uint8_t cut
    bint whole                  # not for lines that may be cut
    bint open_end               # ends with a field that a cut may have shortened
    int8_t last_field           # that field where it is a strict one, else -1
    int32_t number
    int32_t free_count
    int8_t free[FREE_MAX]
    Segment segments[FREE_MAX + 1]


# A line as one variant reads it. A span means something where its bit of `read` is set.
cdef struct Match:
    const Variant *variant
    const uint8_t *end          # of the first free field: what readings are compared by
    uint32_t read
    uint8_t flags
    Span spans[FIELDS_MAX]


# A line without its envelope.
cdef struct Entry:
    Span message
    int64_t time_us
    int64_t pid                 # 0: none, or no number
    int8_t digits               # of the time's fraction, 0 to 6
    uint8_t flags
    bint rsyslog                # rsyslog was on its way, and escaped control bytes
    bint twice                  # the unprivileged child wrote it, and the monitor once more: sshd's escapes stand twice
    bint preauth                # … before the user was authenticated; also where that mark may have been cut off


# Bit KIND of CLASS[byte]: the byte may stand in a field of that kind.
cdef uint16_t CLASS[256]


# Fields: is this span one of that kind?

cdef inline bint is_ipv4(const uint8_t *p, const uint8_t *end) noexcept nogil:
    cdef int part
    cdef int64_t value
    cdef const uint8_t *start
    for part in range(4):
        start = p
        value = digits(&p, end, 3)
        if value < 0 or value > 255 or (p - start > 1 and start[0] == c'0'):
            return False
        if part < 3:
            if p >= end or p[0] != c'.':
                return False
            p += 1
    return p == end


cdef inline bint is_ipv6(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # RFC 4291 text, up to eight groups, one "::", an IPv4 address as the last two; then %scope (getnameinfo).
    cdef int groups = 0
    cdef bint gap = False
    cdef int n
    cdef const uint8_t *scope = <const uint8_t *>memchr(p, c'%', <size_t>(end - p))
    if scope is not NULL:
        if end - scope < 2:
            return False
        end = scope
    if end - p >= 2 and p[0] == c':' and p[1] == c':':
        gap = True
        p += 2
    while p < end:
        n = 0
        while p + n < end and n < 5 and hex_digit(p[n]) >= 0:
            n += 1
        if n and p + n < end and p[n] == c'.':
            return groups <= 6 and (gap or groups == 6) and is_ipv4(p, end)
        if n < 1 or n > 4 or groups == 8:
            return False
        groups += 1
        p += n
        if p == end:
            break
        if p[0] != c':':
            return False
        p += 1
        if p == end:
            return False
        if p[0] == c':':
            if gap:
                return False
            gap = True
            p += 1
    return groups <= 7 if gap else groups == 8


cdef inline bint is_addr(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # UNKNOWN is what sshd writes where the connection is no socket of a known family (inetd, vsock).
    if end - p < 2 or end - p > ADDR_BYTES_MAX:
        return False
    if end - p == 7 and memcmp(p, b"UNKNOWN", 7) == 0:
        return True
    if memchr(p, c':', <size_t>(end - p)) is NULL:
        return is_ipv4(p, end)
    return is_ipv6(p, end)


cdef inline bint is_host(const uint8_t *p, const uint8_t *end) noexcept nogil:
    if is_addr(p, end):
        return True
    while p < end:
        if p[0] == c':' or p[0] == c'%' or p[0] == c'@':
            return False
        p += 1
    return True


cdef inline bint is_port(const uint8_t *p, const uint8_t *end) noexcept nogil:
    return end - p <= 5 and p[0] != c'0' and digits(&p, end, 5) <= 65535


cdef inline bint is_fp(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # HASH:digest, or up to 6.7 bare hex pairs with colons between, or what sshd prints for no key at all.
    cdef const uint8_t *colon
    cdef const uint8_t *q = p
    if end - p == 6 and memcmp(p, b"(null)", 6) == 0:
        return True
    colon = <const uint8_t *>memchr(p, c':', <size_t>(end - p))
    if colon is NULL or colon + 1 >= end or memchr(p, c'(', <size_t>(end - p)) is not NULL:
        return False
    if colon - p >= 3:
        while q < colon and CLASS[q[0]] & (1 << KIND_TYPE):
            q += 1
        return q == colon
    while end - p >= 2 and hex_digit(p[0]) >= 0 and hex_digit(p[1]) >= 0:
        if end - p == 2:
            return True
        if p[2] != c':':
            return False
        p += 3
    return False


cdef inline bint is_kind(int kind, const uint8_t *p, const uint8_t *end) noexcept nogil:
    # Bytes p to end are of the kind's class already, and at least one.
    if kind == KIND_ADDR:
        return is_addr(p, end)
    if kind == KIND_HOST:
        return is_host(p, end)
    if kind == KIND_PORT:
        return is_port(p, end)
    if kind == KIND_INT:
        return end - p <= 20
    if kind == KIND_FP:
        return is_fp(p, end)
    if kind == KIND_PROTO:
        return end - p == 4 and memcmp(p, b"ssh", 3) == 0 and (p[3] == c'1' or p[3] == c'2')
    if kind == KIND_GSSAPI:
        return end - p > 7 and memcmp(p, b"gssapi-", 7) == 0
    return True


# Times.

cdef inline int64_t days_from_civil(int64_t y, int64_t m, int64_t d) noexcept nogil:
    # Days since 1970-01-01 of a Gregorian date; years begin in March, so that the leap day is the last.
    cdef int64_t era, yoe, doy
    y -= m <= 2
    era = y // 400
    yoe = y - era * 400
    doy = (153 * (m + (-3 if m > 2 else 9)) + 2) // 5 + d - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468


cdef inline int64_t pid_of(Span s) noexcept nogil:
    # 0 for what is no pid: not a number, or 0, or more than the kernel gives.
    cdef const uint8_t *p = s.ptr
    cdef int64_t value = digits(&p, s.ptr + s.len, 10)
    return value if p == s.ptr + s.len and 0 < value <= PID_MAX else 0


cdef inline bint read_byte(const uint8_t **cursor, const uint8_t *end, uint8_t c) noexcept nogil:
    if cursor[0] < end and cursor[0][0] == c:
        cursor[0] += 1
        return True
    return False


cdef inline int64_t read_two(const uint8_t **cursor, const uint8_t *end, int64_t most) noexcept nogil:
    # Exactly two digits, at most `most`, or -1.
    cdef const uint8_t *start = cursor[0]
    cdef int64_t value = digits(cursor, end, 2)
    return value if cursor[0] - start == 2 and value <= most else -1


cdef inline int64_t read_clock(const uint8_t **cursor, const uint8_t *end) noexcept nogil:
    # HH:MM:SS as seconds, or -1. 60 is a leap second.
    cdef int64_t h, m, s
    h = read_two(cursor, end, 23)
    if h < 0 or not read_byte(cursor, end, c':'):
        return -1
    m = read_two(cursor, end, 59)
    if m < 0 or not read_byte(cursor, end, c':'):
        return -1
    s = read_two(cursor, end, 60)
    return -1 if s < 0 else h * 3600 + m * 60 + s


cdef inline int64_t read_fraction(const uint8_t **cursor, const uint8_t *end, int8_t *count) noexcept nogil:
    # `.digits` as microseconds; *count is how many were written, six at most: what is finer is dropped.
    cdef int64_t us = 0
    cdef int n = 0
    if not read_byte(cursor, end, c'.'):
        return 0
    while cursor[0] < end and c'0' <= cursor[0][0] <= c'9':
        if n < 6:
            us = us * 10 + cursor[0][0] - c'0'
            n += 1
        cursor[0] += 1
    count[0] = <int8_t>n
    while n < 6:
        us *= 10
        n += 1
    return us


cdef inline bint read_iso(const uint8_t **cursor, const uint8_t *end, Entry *entry) noexcept nogil:
    # 2024-07-09T15:00:29.099504+02:00, through its zone. Without a zone it is no time that we could know.
    cdef const uint8_t *p = cursor[0]
    cdef int64_t y, m, d, clock, us, h, minutes
    cdef int sign = 1
    y = digits(&p, end, 4)
    if p - cursor[0] != 4 or not read_byte(&p, end, c'-'):
        return False
    m = read_two(&p, end, 12)
    if m < 1 or not read_byte(&p, end, c'-'):
        return False
    d = read_two(&p, end, 31)
    if d < 1 or not (read_byte(&p, end, c'T') or read_byte(&p, end, c' ')):
        return False
    clock = read_clock(&p, end)
    if clock < 0:
        return False
    entry.digits = 0
    us = read_fraction(&p, end, &entry.digits)
    minutes = 0
    if not read_byte(&p, end, c'Z'):
        if read_byte(&p, end, c'-'):
            sign = -1
        elif not read_byte(&p, end, c'+'):
            return False
        h = read_two(&p, end, 23)
        read_byte(&p, end, c':')
        minutes = read_two(&p, end, 59)
        if h < 0 or minutes < 0:
            return False
        minutes += h * 60
    entry.time_us = ((days_from_civil(y, m, d) * 1440 - sign * minutes) * 60 + clock) * 1000000 + us
    entry.flags |= FLAG_TIMED
    cursor[0] = p
    return True


# Text: what was escaped on the way is undone once the line was read.

cdef inline int octal(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # Three octal digits as a byte, or -1.
    if end - p < 3 or not (c'0' <= p[0] <= c'3' and c'0' <= p[1] <= c'7' and c'0' <= p[2] <= c'7'):
        return -1
    return (p[0] - c'0') << 6 | (p[1] - c'0') << 3 | (p[2] - c'0')


cdef inline int c_escape(uint8_t c) noexcept nogil:
    # What vis(3)'s VIS_CSTYLE means by a letter, or -1.
    if c == c'n':
        return 10
    if c == c't':
        return 9
    if c == c'r':
        return 13
    if c == c'\\':
        return 92
    if c == c'b':
        return 8
    if c == c'a':
        return 7
    if c == c'v':
        return 11
    if c == c'f':
        return 12
    if c == c's':
        return 32
    if c == c'0':
        return 0
    return -1


cdef inline bint is_printable(const uint8_t *p, const uint8_t *end) noexcept nogil:
    while p < end:
        if p[0] < 0x20 or p[0] > 0x7E:
            return False
        p += 1
    return True


cdef inline Py_ssize_t undo_rsyslog(const uint8_t *p, const uint8_t *end, uint8_t *out) noexcept nogil:
    # `#ooo` for a control byte. rsyslog does not escape a `#` that was there before: `#101` stays.
    cdef Py_ssize_t n = 0
    cdef int c
    while p < end:
        c = octal(p + 1, end) if p[0] == c'#' else -1
        if c >= 0 and (c < 32 or c == 127):
            out[n] = <uint8_t>c
            p += 4
        else:
            out[n] = p[0]
            p += 1
        n += 1
    return n


cdef inline Py_ssize_t undo_vis(const uint8_t *p, const uint8_t *end, uint8_t *out) noexcept nogil:
    # log.c's strnvis(VIS_CSTYLE|VIS_NL|VIS_TAB|VIS_OCTAL). out may be p. An escape that a cut left half stays.
    cdef Py_ssize_t n = 0
    cdef int c
    while p < end:
        c = -1
        if p[0] == c'\\' and end - p > 1:
            c = octal(p + 1, end)
            if c >= 0:
                p += 4
            else:
                c = c_escape(p[1])
                if c >= 0:
                    p += 2
        if c < 0:
            c = p[0]
            p += 1
        out[n] = <uint8_t>c
        n += 1
    return n


cdef extern from *:
    """
    #include <string.h>
    static inline PyObject *ascii_str(const unsigned char *p, Py_ssize_t n) {
        PyObject *s = PyUnicode_New(n, 127);
        if (s != NULL) memcpy(PyUnicode_1BYTE_DATA(s), p, (size_t)n);
        return s;
    }
    """
    str ascii_str(const uint8_t *p, Py_ssize_t n)


cdef inline bint is_plain(Span s, bint rsyslog) noexcept nogil:
    # ASCII in which nothing can be an escape: the text is the bytes.
    cdef Py_ssize_t i
    for i in range(s.len):
        if s.ptr[i] >= 0x80 or s.ptr[i] == c'\\' or (rsyslog and s.ptr[i] == c'#'):
            return False
    return True


# The text of a span that was read: without loss, and with what was escaped on the way undone. vis: by sshd's log.c.
cdef str text_of(Span s, const Entry *entry, bint vis)


# What lines that a row knows are given to. Entry and match are the scanner's: borrowed until the call returns.
cdef class LineSink:
    # 0, or REJECT_FORGED for what nobody may say but sshd itself.
    cdef int take_line(self, Entry *entry, Match *match, uint32_t repeat) except -1
    cdef int take_forged(self, Entry *entry) except -1     # a journal entry that is not sshd's own: it has no message


cdef class Variants:
    # A grammar, compiled. Never changed: scanners share it.
    cdef tuple row_fields       # names of each row's fields
    cdef list words             # by variant: what each field of the row is where the variant alone says it
    cdef list literals          # owns the bytes that Step.text points to
    cdef bytes vis              # by row: 1 where sshd's own escapes are to be undone
    cdef Variant *variants
    cdef Step *steps
    cdef Variant *buckets[TURNS][BUCKETS]
    cdef Variant *anywhere[TURNS]   # variants that begin with a field

    cdef int compile(self, object grammar) except -1
    cdef int compile_variant(self, Variant *variant, object source, Step **steps) except -1
    cdef void compile_end(self, Variant *variant, bint whole) noexcept


cdef class Scanner:
    # Configuration, fixed from __cinit__ on
    cdef Variants _variants
    cdef LineSink _sink
    cdef object _minute         # (month, day, hour, minute, now_us) -> µs since the epoch, or -1
    cdef object _entry          # a journal entry's JSON -> (time_us, pid, trust, message), or None
    cdef bint _keep_all         # hand over every line not read, not only samples

    # State from one scan to the next
    #   0 .. _used    bytes of the unfinished line that are kept
    #   _pending      all bytes of it, also those skipped past the limit
    cdef uint8_t *_line
    cdef Py_ssize_t _used
    cdef Py_ssize_t _pending
    cdef int _form              # what FORM_AUTO turned out to be
    cdef bint _enveloped        # a syslog line with time and tag came: bare ones are none of sshd's any more
    cdef int _bare              # lines with an envelope that are not believed yet: bare ones of sshd's came before
    cdef bytes _message         # owns the message of the journal entry at hand
    cdef int64_t _minute_key
    cdef int64_t _minute_us
    cdef list _rejected
    cdef Match _matches[2]      # the best reading of the line at hand, and room for the next

    # Counters, monotonic
    cdef uint64_t _lines
    cdef uint64_t _rejects[8]
    cdef uint64_t _ambiguous
    cdef uint64_t _cut
    cdef uint64_t _repeated
    cdef uint64_t *_row_hits

    cdef void _keep(self, const uint8_t *p, Py_ssize_t n) noexcept
    cdef int _scan_kept(self, int form, int64_t now_us) except -1
    cdef int _scan_line(self, const uint8_t *ptr, Py_ssize_t len, int form, int64_t now_us) except -1
    cdef int _scan_unescaped(self, Span line, int code, int64_t now_us, Entry *entry) except -1
    cdef void _believe(self, Entry *entry) noexcept
    cdef int _read_entry(self, Span line, int form, int64_t now_us, Entry *entry) except -100
    cdef int _read_syslog(self, Span line, Entry *entry, int64_t now_us) except -100
    cdef bint _read_rfc3164_time(
        self, const uint8_t **cursor, const uint8_t *end, int month, Entry *entry, int64_t now_us
    ) except -1
    cdef int _read_json(self, Span line, Entry *entry) except -100
    cdef int _scan_entry(self, Entry *entry) except -1000
    cdef Match *_match(self, Span message, bint cut) noexcept
    cdef int _reject(self, Span line, Span message, int code) except -1
