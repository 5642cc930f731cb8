"""The line scanner of sshd's messages: bytes as they were read in; each line that a row knows goes to the sink.

What a message looks like stands in tables/sshd.py, what it means in logins.py; here is only how lines are told
apart, all of it by literal texts and classes of bytes, in time linear in the line.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc

from audito.text import lossless

cdef extern from *:
    """
    #include <string.h>
    """
    void *memmem(const void *haystack, size_t size, const void *needle, size_t needle_size) nogil

CUTS = ("", "tail", "only", "open")
KINDS = ("", "addr", "host", "port", "int", "decimal", "word", "type", "fp", "method", "gssapi", "proto", "name")
FORMATS = ("pipe", "syslog", "journal", "journal-json", "auto")
REJECTS = ("", "blank", "other_program", "no_envelope", "too_long", "unmatched", "debug", "untrusted")
CUT, AMBIGUOUS, UNESCAPED = FLAG_CUT, FLAG_AMBIGUOUS, FLAG_UNESCAPED

cdef void fill_classes() noexcept nogil:
    cdef int c
    cdef bint digit, upper, lower
    for c in range(256):
        digit = c'0' <= c <= c'9'
        upper = c'A' <= c <= c'Z'
        lower = c'a' <= c <= c'z'
        CLASS[c] = 0
        if digit:
            CLASS[c] |= 1 << KIND_PORT | 1 << KIND_INT
        if digit or c == c'.':
            CLASS[c] |= 1 << KIND_DECIMAL
        if c > 0x20 and c != 0x7F:
            CLASS[c] |= 1 << KIND_WORD
        if digit or upper or c == c'-':
            CLASS[c] |= 1 << KIND_TYPE
        if digit or lower or c == c'-' or c == c'/' or c == c'_':
            CLASS[c] |= 1 << KIND_METHOD | 1 << KIND_GSSAPI | 1 << KIND_PROTO
        if digit or upper or lower or c in (c'+', c'/', c'=', c':', c'-', c'(', c')'):
            CLASS[c] |= 1 << KIND_FP
        if digit or upper or lower or c in (c'.', c':', c'-', c'_'):
            CLASS[c] |= 1 << KIND_NAME
        if digit or upper or lower or c in (c'.', c':', c'%', c'-', c'_', c'@'):
            CLASS[c] |= 1 << KIND_ADDR | 1 << KIND_HOST


fill_classes()


# Segments: match steps from a place to the right, or from a place to the left.

cdef inline bint same_text(const uint8_t *a, const uint8_t *b, Py_ssize_t n) noexcept nogil:
    # Most texts that are not the same differ at once, and most are short: a call of memcmp for each took a tenth of
    # the time of a line.
    while n >= 8:
        if load8(a) != load8(b):
            return False
        a += 8
        b += 8
        n -= 8
    while n:
        if a[0] != b[0]:
            return False
        a += 1
        b += 1
        n -= 1
    return True


cdef inline bint text_at(const Step *step, const uint8_t *p, const uint8_t *end) noexcept nogil:
    return end - p >= step.len and same_text(p, step.text, step.len)


cdef const uint8_t *field_end(const Step *step, bint more, const uint8_t *p, const uint8_t *end) noexcept nogil:
    # Where the field that starts at p ends. Its bytes run on as far as its class; they may have run into the text
    # that follows (`10.0.0.5: 11:`), so that text is also looked for a few bytes back.
    cdef const uint8_t *q = p
    cdef uint16_t bit = <uint16_t>(1 << step.kind)
    cdef int back = 0
    while q < end and CLASS[q[0]] & bit:
        q += 1
    if not more:
        return q if q > p and is_kind(step.kind, p, q) else NULL
    while q > p and back <= step[1].len:
        if text_at(step + 1, q, end) and is_kind(step.kind, p, q):
            return q
        q -= 1
        back += 1
    return NULL


cdef inline void note_field(Match *m, int8_t field, const uint8_t *start, const uint8_t *end) noexcept nogil:
    m.spans[field] = span_of(start, end - start)
    m.read |= <uint32_t>1 << field


cdef inline void forget_field(Match *m, int8_t field) noexcept nogil:
    m.read &= ~(<uint32_t>1 << field)


cdef const uint8_t *match_right(const Segment *segment, const uint8_t *p, const uint8_t *end, Match *m) noexcept nogil:
    # The end of the segment when it stands at p, else NULL.
    cdef const uint8_t *q
    cdef int32_t i
    cdef const Step *step = segment.steps
    for i in range(segment.count):
        if step.kind == KIND_LITERAL:
            if not text_at(step, p, end):
                return NULL
            p += step.len
        else:
            q = field_end(step, i + 1 < segment.count, p, end)
            if q is NULL:
                return NULL
            note_field(m, step.field, p, q)
            p = q
        step += 1
    return p


cdef const uint8_t *match_left(const Segment *segment, const uint8_t *start, const uint8_t *p, Match *m) noexcept nogil:
    # The start of the segment when it ends at p, else NULL; it does not reach left of start.
    cdef const uint8_t *q
    cdef int32_t i
    cdef uint16_t bit
    cdef const Step *step = segment.steps + segment.count
    for i in range(segment.count):
        step -= 1
        if step.kind == KIND_LITERAL:
            if p - start < step.len or not same_text(p - step.len, step.text, step.len):
                return NULL
            p -= step.len
        else:
            q = p
            bit = <uint16_t>(1 << step.kind)
            while q > start and CLASS[(q - 1)[0]] & bit:
                q -= 1
            if q == p or not is_kind(step.kind, q, p):
                return NULL
            note_field(m, step.field, q, p)
            p = q
    return p


cdef const uint8_t *find_first(
    const Segment *segment, const uint8_t *p, const uint8_t *end, Match *m, const uint8_t **after
) noexcept nogil:
    # The first place at or right of p where the segment stands, or NULL; *after is its end there.
    # Fields hold no byte that a separating text begins with, so that no byte is read more than a few times.
    cdef const Step *first = segment.steps
    while True:
        p = <const uint8_t *>memmem(p, <size_t>(end - p), first.text, first.len)
        if p is NULL:
            return NULL
        after[0] = match_right(segment, p, end, m)
        if after[0] is not NULL:
            return p
        p += 1


cdef const uint8_t *find_last(
    const Segment *segment, const uint8_t *p, const uint8_t *end, Match *m
) noexcept nogil:
    # The last place at or right of p where the segment stands, or NULL.
    cdef const uint8_t *after = NULL
    cdef const uint8_t *found = NULL
    while p <= end:
        p = find_first(segment, p, end, m, &after)
        if p is NULL:
            break
        found = p
        p += 1
    return found


cdef void forget_segment(const Segment *segment, Match *m) noexcept nogil:
    cdef int32_t i
    for i in range(segment.count):
        if segment.steps[i].kind != KIND_LITERAL:
            forget_field(m, segment.steps[i].field)


cdef bint match_middle(const Variant *v, const uint8_t *p, const uint8_t *end, Match *m) noexcept nogil:
    # Split p to end into the free fields. The leftmost split and the rightmost one are the same where there is
    # but one; where they differ, what stands beside the difference is forgotten.
    cdef const uint8_t *starts[FREE_MAX]
    cdef const uint8_t *ends[FREE_MAX]
    cdef const uint8_t *lasts[FREE_MAX]
    cdef Match scratch
    cdef const uint8_t *bound = end
    cdef const uint8_t *place
    cdef int32_t j
    cdef int32_t separators = v.free_count - 1
    scratch.read = 0
    place = p
    for j in range(separators):
        starts[j] = find_first(&v.segments[j + 1], place, end, m, &ends[j])
        if starts[j] is NULL:
            return False
        note_field(m, v.free[j], place, starts[j])
        place = ends[j]
    note_field(m, v.free[separators], place, end)
    m.end = starts[0]
    for j in range(separators - 1, -1, -1):
        bound = find_last(&v.segments[j + 1], starts[j], bound, &scratch)
        lasts[j] = bound
    for j in range(separators):
        if lasts[j] != starts[j] and (m.flags & FLAG_AMBIGUOUS or not v.known >> j & 1):
            m.flags |= FLAG_AMBIGUOUS
            forget_field(m, v.free[j])
            forget_field(m, v.free[j + 1])
            forget_segment(&v.segments[j + 1], m)
    return True


cdef bint is_marked(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # sshd's marker of a name that is no account stands here; it is PAM's code that says "illegal".
    return end - p >= 13 and (memcmp(p, b"invalid user ", 13) == 0 or memcmp(p, b"illegal user ", 13) == 0)


cdef bint match_variant(const Variant *v, Span message, bint at_limit, Match *m) noexcept nogil:
    # Read a whole message as v says. At sshd's limit the last segment of what can be cut is not looked for.
    cdef bint cut = at_limit and (v.cut == CUT_TAIL or v.cut == CUT_ONLY)
    cdef const uint8_t *p = message.ptr
    cdef const uint8_t *end = message.ptr + message.len
    if at_limit and v.whole:
        return False
    m.read = 0
    m.variant = v
    m.flags = FLAG_CUT if cut or v.cut == CUT_OPEN else 0
    m.end = p
    if not cut and v.free_count:
        # The end first: it is what most messages of one beginning differ in.
        end = match_left(&v.segments[v.free_count], p, end, m)
        if end is NULL:
            return False
    p = match_right(&v.segments[0], p, end, m)
    if p is NULL:
        return False
    if v.free_count == 0:
        return p == end
    if v.known & 1 and is_marked(p, end):
        return False
    if v.free_count == 1:
        note_field(m, v.free[0], p, end)
        m.end = end
        return True
    return match_middle(v, p, end, m)


cdef void glance_at(Span message, Glance *glance) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint8_t c
    memset(glance, 0, sizeof(Glance))
    memcpy(glance.head, message.ptr, min(<size_t>message.len, sizeof(glance.head)))
    for i in range(message.len):
        c = message.ptr[i]
        glance.signs |= <uint64_t>(c < 64) << (c & 63)


cdef inline bint may_read(const Variant *v, const Glance *glance, bint cut) noexcept nogil:
    # Whether the message has what each that the variant reads has: of those in one bucket few do, and trying one
    # costs ten times as much. Where sshd has cut the line, the signs of the end are missing.
    cdef int i
    for i in range(HEAD_WORDS):
        if (v.head[i] ^ glance.head[i]) & v.head_mask[i]:
            return False
    return cut or v.signs & ~glance.signs == 0


cdef bint best_of(
    const Variant *variant, Span message, const Glance *glance, bint cut, Match **best, Match **spare
) noexcept nogil:
    # Let a chain of variants try to better the best reading; True where two of them differ.
    cdef Match *match
    cdef bint doubt = False
    while variant is not NULL:
        if may_read(variant, glance, cut) and match_variant(variant, message, cut, spare[0]):
            match = spare[0]
            if best[0].variant is NULL:
                spare[0], best[0] = best[0], match
            elif match.end != best[0].end:
                doubt = True
                if match.end < best[0].end:
                    spare[0], best[0] = best[0], match
        variant = variant.next
    return doubt


# Envelopes.

cdef int month_of(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # 1 to 12 for `Jan ` to `Dec `, else 0.
    cdef int i
    cdef const char *months = b"JanFebMarAprMayJunJulAugSepOctNovDec"
    if end - p < 4 or p[3] != c' ':
        return 0
    for i in range(12):
        if memcmp(p, months + 3 * i, 3) == 0:
            return i + 1
    return 0


cdef inline Span until_blank(const uint8_t **cursor, const uint8_t *end) noexcept nogil:
    # The word at the cursor, which moves behind the blanks that follow it.
    cdef const uint8_t *start = cursor[0]
    cdef const uint8_t *p = <const uint8_t *>memchr(start, c' ', <size_t>(end - start))
    if p is NULL:
        p = end
    cursor[0] = p
    while cursor[0] < end and cursor[0][0] == c' ':
        cursor[0] += 1
    return span_of(start, p - start)


cdef bint is_sshd(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    # One of TAGS in tables/programs.py.
    return (
        (n == 4 and memcmp(p, b"sshd", 4) == 0)
        or (n == 12 and memcmp(p, b"sshd-session", 12) == 0)
        or (n == 9 and memcmp(p, b"sshd-auth", 9) == 0)
    )


cdef int read_tag(Span word, int64_t *pid) noexcept nogil:
    # `sshd[9]:`, `sshd:`, `sshd(pam_unix)[9]:`: 1 when it is sshd's, 0 when it is another's, -1 when it is no tag.
    cdef const uint8_t *p = word.ptr
    cdef const uint8_t *end = word.ptr + word.len
    cdef const uint8_t *name_end
    cdef const uint8_t *close
    if word.len < 2 or (end - 1)[0] != c':':
        return -1
    end -= 1
    while p < end and p[0] != c'[' and p[0] != c'(' and p[0] != c':':
        p += 1
    name_end = p
    if not is_sshd(word.ptr, name_end - word.ptr):
        return 0
    if p < end and p[0] == c'(':
        close = <const uint8_t *>memchr(p, c')', <size_t>(end - p))
        if close is NULL:
            return 0
        p = close + 1
    pid[0] = 0
    if p < end and p[0] == c'[' and (end - 1)[0] == c']':
        pid[0] = pid_of(span_of(p + 1, end - p - 2))
        return 1
    return p == end


cdef const uint8_t *skip_structured(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # Behind RFC 5424's `-` or `[id name="value \"]"]…`, or NULL.
    cdef bint quoted
    if p < end and p[0] == c'-':
        return p + 1
    if p >= end or p[0] != c'[':
        return NULL
    while p < end and p[0] == c'[':
        quoted = False
        p += 1
        while p < end and (quoted or p[0] != c']'):
            if p[0] == c'\\' and quoted:
                p += 1
            elif p[0] == c'"':
                quoted = not quoted
            p += 1
        if p >= end:
            return NULL
        p += 1
    return p


cdef int read_rfc5424(const uint8_t *p, const uint8_t *end, Entry *entry) noexcept nogil:
    # After `<PRI>1 `: TIME HOST APP PROCID MSGID STRUCTURED MESSAGE.
    cdef Span app, procid
    if p < end and p[0] == c'-':
        until_blank(&p, end)
    elif read_iso(&p, end, entry):
        until_blank(&p, end)
    else:
        return REJECT_ENVELOPE
    until_blank(&p, end)
    app = until_blank(&p, end)
    if not app.len:
        return REJECT_ENVELOPE
    if not is_sshd(app.ptr, app.len):
        return REJECT_OTHER
    procid = until_blank(&p, end)
    entry.pid = pid_of(procid)
    until_blank(&p, end)
    p = skip_structured(p, end)
    if p is NULL:
        return REJECT_ENVELOPE
    entry.message = span_of(p, end - p)
    return 0


cdef int read_tagged(const uint8_t *p, const uint8_t *end, Entry *entry) noexcept nogil:
    # `[HOST ]TAG: MESSAGE`, after the time. The host may be missing, or an IPv6 address: `fe80::`.
    cdef Span first = until_blank(&p, end)
    cdef Span second
    cdef int64_t pid = 0
    cdef const uint8_t *after_first = p
    cdef int tag = read_tag(first, &pid)
    if tag <= 0:
        second = until_blank(&p, end)
        if tag < 0 or memmem(first.ptr, <size_t>first.len, b"::", 2) is not NULL:
            tag = read_tag(second, &pid)
        else:
            p = after_first
    if tag <= 0:
        return REJECT_OTHER if tag == 0 else REJECT_ENVELOPE
    entry.pid = pid
    entry.message = span_of(p, end - p)
    return 0


cdef int read_pipe(Span line, Entry *entry) noexcept nogil:
    # `PID MESSAGE`, as rsyslog's template has it; MESSAGE begins with the blank that followed the tag.
    cdef const uint8_t *p = line.ptr
    cdef const uint8_t *end = line.ptr + line.len
    cdef Span pid = until_blank(&p, end)
    entry.pid = pid_of(pid)
    entry.message = span_of(p, end - p)
    return 0


cdef int read_journal(Span line, Entry *entry) noexcept nogil:
    # `REALTIME_USEC PID TRUST MESSAGE`, as our journal source has it.
    cdef const uint8_t *p = line.ptr
    cdef const uint8_t *end = line.ptr + line.len
    cdef const uint8_t *start
    cdef Span pid, trust
    entry.time_us = digits(&p, end, 18)
    if entry.time_us < 0 or p >= end or p[0] != c' ':
        return REJECT_ENVELOPE
    p += 1
    start = <const uint8_t *>memchr(p, c' ', <size_t>(end - p))
    if start is NULL:
        return REJECT_ENVELOPE
    pid = span_of(p, start - p)
    p = start + 1
    start = <const uint8_t *>memchr(p, c' ', <size_t>(end - p))
    trust = span_of(p, (end if start is NULL else start) - p)
    if trust.len != 1 or not c'0' <= trust.ptr[0] <= c'3':
        return REJECT_ENVELOPE
    entry.pid = pid_of(pid)
    entry.digits = 6
    entry.flags |= FLAG_TIMED
    p = end if start is NULL else start + 1
    entry.message = span_of(p, end - p)
    if trust.ptr[0] == c'0':
        return REJECT_FORGED
    trust_entry(entry, trust.ptr[0] - c'0')
    return 0


cdef inline void trust_entry(Entry *entry, int trust) noexcept nogil:
    # As much as the journal vouches for: see sources/journal.py.
    if trust == 3:
        entry.flags |= FLAG_SESSION
    else:
        entry.flags |= FLAG_TRUSTED
    if trust == 2:
        entry.flags |= FLAG_UNESCAPED


cdef int form_of(Span line) noexcept nogil:
    # What FORM_AUTO is, by a line that leaves no doubt; FORM_AUTO when this one does.
    cdef const uint8_t *p = line.ptr
    cdef const uint8_t *end = line.ptr + line.len
    cdef Entry entry
    cdef int64_t number
    memset(&entry, 0, sizeof(entry))
    if p[0] == c'{':
        return FORM_JSON
    if p[0] == c'<' or month_of(p, end) or read_iso(&p, end, &entry):
        return FORM_SYSLOG
    if line.len > 2 and p[0] == c'-' and p[1] == c' ':
        return FORM_PIPE
    number = digits(&p, end, 18)
    if number < 0 or p >= end or p[0] != c' ':
        return FORM_AUTO
    if number > PID_MAX:
        return FORM_JOURNAL if read_journal(line, &entry) in (0, REJECT_FORGED) else FORM_AUTO
    return FORM_PIPE


# Messages.

cdef bint strip_start(Span *s, const char *text, Py_ssize_t n) noexcept nogil:
    if s.len < n or memcmp(s.ptr, text, <size_t>n) != 0:
        return False
    s[0] = span_of(s.ptr + n, s.len - n)
    return True


cdef bint strip_end(Span *s, const char *text, Py_ssize_t n) noexcept nogil:
    if s.len < n or memcmp(s.ptr + s.len - n, text, <size_t>n) != 0:
        return False
    s.len -= n
    return True


cdef bint strip_repeated(Span *s, uint32_t *count) noexcept nogil:
    # rsyslog's `message repeated N times: [ MESSAGE]`.
    cdef Span inner = s[0]
    cdef const uint8_t *p
    cdef int64_t n
    if not strip_start(&inner, b"message repeated ", 17):
        return False
    p = inner.ptr
    n = digits(&p, inner.ptr + inner.len, 9)
    inner = span_of(p, inner.ptr + inner.len - p)
    if n < 1 or not strip_start(&inner, b" times: [", 9) or not strip_end(&inner, b"]", 1):
        return False
    strip_start(&inner, b" ", 1)
    s[0] = inner
    count[0] = <uint32_t>n
    return True


cdef bint strip_verbose(Span *s, int64_t *pid) noexcept nogil:
    # LogVerbose's `auth.c:auth_log():301 (bin=sshd-session, pid=123): `; `(pid=123)` before 9.8.
    cdef const uint8_t *p = s.ptr
    cdef const uint8_t *end = s.ptr + s.len
    cdef const uint8_t *blank = <const uint8_t *>memchr(p, c' ', <size_t>min(s.len, <Py_ssize_t>VERBOSE_BYTES_MAX))
    cdef const uint8_t *name = blank
    cdef const uint8_t *mark
    cdef const uint8_t *number
    if blank is NULL:
        return False
    while name > p and c'0' <= (name - 1)[0] <= c'9':
        name -= 1
    if name == blank or name - p < 3 or memcmp(name - 3, b"():", 3) != 0:
        return False
    mark = <const uint8_t *>memmem(blank, <size_t>min(end - blank, <Py_ssize_t>VERBOSE_BYTES_MAX), b"): ", 3)
    if mark is NULL or memmem(p, <size_t>(name - p), b".c:", 3) is NULL:
        return False
    number = mark
    while c'0' <= (number - 1)[0] <= c'9':
        number -= 1
    if number - blank < 6 or memcmp(number - 4, b"pid=", 4) != 0:
        return False
    pid[0] = pid_of(span_of(number, mark - number))
    s[0] = span_of(mark + 3, end - mark - 3)
    return True


cdef inline bint may_be_cut(Span message) noexcept nogil:
    return message.len == MESSAGE_BYTES or message.len >= STDERR_BYTES_MIN


# Text.

cdef str text_of(Span s, const Entry *entry, bint vis):
    # A span as text. What went through log.c twice is printable after the first undoing; a later sshd that no
    # longer does so gives itself away where the text is not.
    cdef Py_ssize_t n = s.len
    cdef bytes data
    cdef uint8_t *out
    if is_plain(s, entry.rsyslog):
        return ascii_str(s.ptr, s.len)
    data = PyBytes_FromStringAndSize(NULL, s.len)
    out = <uint8_t *>PyBytes_AS_STRING(data)
    memcpy(out, s.ptr, <size_t>s.len)
    if vis:
        n = undo_vis(out, out + n, out)
    if vis and entry.twice and is_printable(out, out + n):
        n = undo_vis(out, out + n, out)
    if entry.rsyslog:
        n = undo_rsyslog(out, out + n, out)     # last: its control bytes say nothing about log.c's
    return lossless(data[:n])


cdef inline uint32_t bucket_of(const uint8_t *p) noexcept nogil:
    # By the first four bytes, which the caller knows to be there.
    cdef uint32_t key
    memcpy(&key, p, 4)
    return (key * 2654435761u) >> 24


cdef class LineSink:

    cdef int take_line(self, Entry *entry, Match *match, uint32_t repeat) except -1:
        return 0

    cdef int take_forged(self, Entry *entry) except -1:
        return 0


cdef class Variants:
    """A grammar of tables/sshd.py, compiled."""

    def __cinit__(self, grammar):
        self.compile(grammar)

    def __dealloc__(self):
        PyMem_Free(self.variants)
        PyMem_Free(self.steps)

    cdef int compile(self, object grammar) except -1:
        cdef int32_t i
        cdef int turn
        cdef Step *steps
        cdef Variant *variant
        cdef Variant **place
        cdef bint literal
        self.row_fields = grammar.fields
        self.vis = bytes([row.versions != "pam" for row in grammar.rows])
        self.words = [source.words for source in grammar.variants]
        self.literals = []
        self.variants = <Variant *>PyMem_Calloc(<size_t>len(grammar.variants), sizeof(Variant))
        count = sum([len(segment) for source in grammar.variants for segment in source.segments])
        self.steps = <Step *>PyMem_Calloc(count, sizeof(Step))
        if self.variants is NULL or self.steps is NULL:
            raise MemoryError
        steps = self.steps
        for i, source in enumerate(grammar.variants):
            variant = &self.variants[i]
            variant.number = i
            self.compile_variant(variant, source, &steps)
            literal = variant.segments[0].count > 0 and variant.segments[0].steps.kind == KIND_LITERAL
            turn = TURN_FIRST if literal else TURN_FIELD
            if source.last:
                turn = TURN_LAST if literal else TURN_FIELD_LAST
            if variant.cut == CUT_ONLY:
                turn = TURN_CUT
            place = &self.anywhere[turn]
            if literal:
                if variant.segments[0].steps.len < 4:
                    raise ValueError(f"a message begins with four bytes of its own: {source}")
                place = &self.buckets[turn][bucket_of(variant.segments[0].steps.text)]
            while place[0] is not NULL:
                place = &place[0].next
            place[0] = variant
        return 0

    cdef int compile_variant(self, Variant *variant, object source, Step **steps) except -1:
        cdef int32_t i
        if len(source.free) > FREE_MAX or len(source.words) > FIELDS_MAX:
            raise ValueError(f"too many fields: {source}")
        variant.row = source.row
        variant.known = source.known
        variant.cut = <uint8_t>(<int>CUTS.index(source.cut))
        variant.free_count = <int32_t>len(source.free)
        for i in range(variant.free_count):
            variant.free[i] = source.free[i]
        for i in range(variant.free_count + 1):
            variant.segments[i].steps = steps[0]
            variant.segments[i].count = <int32_t>len(source.segments[i])
            for kind, field, literal in source.segments[i]:
                self.literals.append(literal)
                steps[0].kind = KINDS.index(kind)
                steps[0].field = field
                steps[0].len = <uint16_t>len(literal)
                steps[0].text = <const uint8_t *>PyBytes_AS_STRING(literal)
                steps[0] += 1
                variant.signs |= sum({1 << c for c in literal if c < 64})
        if variant.segments[0].count and variant.segments[0].steps.kind == KIND_LITERAL:
            i = min(<int32_t>variant.segments[0].steps.len, <int32_t>sizeof(variant.head))
            memcpy(variant.head, variant.segments[0].steps.text, <size_t>i)
            memset(variant.head_mask, 0xFF, <size_t>i)
        self.compile_end(variant, source.whole)
        return 0

    cdef void compile_end(self, Variant *variant, bint whole) noexcept:
        # What a line at sshd's limit means for a reading: an address, a number or a free text may go on behind it.
        cdef const Segment *end = &variant.segments[variant.free_count]
        cdef const Step *last = end.steps + end.count - 1
        variant.whole = whole
        variant.last_field = -1
        if end.count == 0:
            variant.open_end = True
        elif last.kind != KIND_LITERAL and last.kind != KIND_PROTO:
            variant.open_end = True
            variant.last_field = last.field


cdef class Scanner:
    """Lines of sshd, told apart by a grammar of tables/sshd.py."""

    def __cinit__(self, Variants variants not None, LineSink sink not None, *, minute, entry, keep_all=False):
        self._line = <uint8_t *>PyMem_Malloc(JSON_BYTES_MAX)
        self._row_hits = <uint64_t *>PyMem_Calloc(<size_t>len(variants.row_fields) + 1, sizeof(uint64_t))
        if self._line is NULL or self._row_hits is NULL:
            raise MemoryError
        self._variants = variants
        self._sink = sink
        self._minute = minute
        self._entry = entry
        self._keep_all = keep_all
        self._form = FORM_AUTO
        self._minute_key = -1
        self._rejected = []

    def __dealloc__(self):
        PyMem_Free(self._line)
        PyMem_Free(self._row_hits)

    # Framing.

    def scan(self, data, form: int, now_us: int) -> None:
        cdef Py_buffer view
        cdef const uint8_t *p
        cdef const uint8_t *end
        cdef const uint8_t *newline
        cdef int64_t now = now_us
        cdef int c_form = form
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            p = <const uint8_t *>view.buf
            end = p + view.len
            while p < end:
                newline = <const uint8_t *>memchr(p, c'\n', <size_t>(end - p))
                if newline is NULL:
                    self._keep(p, end - p)
                    break
                if self._pending:
                    self._keep(p, newline - p)
                    self._scan_kept(c_form, now)
                else:
                    self._scan_line(p, newline - p, c_form, now)
                p = newline + 1
        finally:
            PyBuffer_Release(&view)

    def finish(self, form: int, now_us: int) -> None:
        if self._pending:
            self._scan_kept(form, now_us)

    def cut_line(self) -> None:
        cdef Py_ssize_t used = min(self._used, <Py_ssize_t>LINE_BYTES_MAX)
        if self._pending:
            self._used = 0
            self._pending = 0
            self._lines += 1
            self._reject(span_of(self._line, used), span_of(self._line, 0), REJECT_ENVELOPE)

    cdef void _keep(self, const uint8_t *p, Py_ssize_t n) noexcept:
        # Append to the unfinished line; what is past the limit is only counted.
        cdef Py_ssize_t room = JSON_BYTES_MAX - self._used
        self._pending += n
        n = min(n, room)
        memcpy(self._line + self._used, p, <size_t>n)
        self._used += n

    cdef int _scan_kept(self, int form, int64_t now_us) except -1:
        cdef Py_ssize_t used = self._used
        cdef bint whole = self._pending == used
        self._used = 0
        self._pending = 0
        if whole:
            return self._scan_line(self._line, used, form, now_us)
        self._lines += 1
        return self._reject(
            span_of(self._line, min(used, <Py_ssize_t>LINE_BYTES_MAX)), span_of(self._line, 0), REJECT_LONG
        )

    # One line.

    cdef int _scan_line(self, const uint8_t *ptr, Py_ssize_t len, int form, int64_t now_us) except -1:
        cdef Entry entry
        cdef Span line
        cdef int code
        self._lines += 1
        while len and (ptr[len - 1] == c'\r' or ptr[len - 1] == 0):
            len -= 1
        while len and (ptr[0] == c' ' or ptr[0] == 0):
            ptr += 1
            len -= 1
        if not len:
            return self._reject(span_of(ptr, 0), span_of(ptr, 0), REJECT_BLANK)
        line = span_of(ptr, len)
        if form == FORM_AUTO:
            if self._form == FORM_AUTO:
                self._form = form_of(line)
            form = self._form if self._form != FORM_AUTO else FORM_SYSLOG
        if len > LINE_BYTES_MAX and form != FORM_JSON:
            return self._reject(span_of(ptr, LINE_BYTES_MAX), span_of(ptr, 0), REJECT_LONG)
        memset(&entry, 0, sizeof(entry))
        entry.time_us = now_us
        entry.digits = 6
        code = self._read_entry(line, form, now_us, &entry)
        if form == FORM_SYSLOG and entry.flags & FLAG_UNESCAPED:
            return self._scan_unescaped(line, code, now_us, &entry)
        if code == REJECT_BLANK and form == FORM_PIPE and not c'0' <= ptr[0] <= c'9' and ptr[0] != c'-':
            code = REJECT_UNMATCHED
        if code == 0:
            code = self._scan_entry(&entry)
        if code == REJECT_UNMATCHED and form == FORM_PIPE and not entry.pid and c'A' <= line.ptr[0] <= c'z':
            # No `PID ` at all: then the message is the whole line.
            entry.message = line
            entry.flags |= FLAG_UNESCAPED
            code = self._scan_entry(&entry)
        if code == REJECT_FORGED:
            self._sink.take_forged(&entry)
        if code < 0:
            return self._reject(span_of(ptr, min(len, <Py_ssize_t>LINE_BYTES_MAX)), entry.message, code)
        return 0

    cdef int _scan_unescaped(self, Span line, int code, int64_t now_us, Entry *entry) except -1:
        # A line of sshd -E, or one that somebody's text made in such a file: it may say that it has a time and a pid.
        cdef bint bare = entry.message.ptr == line.ptr
        entry.time_us = now_us
        entry.digits = 6
        entry.pid = 0
        entry.flags = FLAG_UNESCAPED
        if code == 0:
            code = self._scan_entry(entry)
        if code < 0:
            return self._reject(line, entry.message, code)
        if bare:
            self._bare = BARE_LINES
            if self._form == FORM_AUTO:
                self._form = FORM_SYSLOG
        return 0

    cdef int _read_entry(self, Span line, int form, int64_t now_us, Entry *entry) except -100:
        # Strip the envelope: 0, or why there is no message.
        cdef int code
        if form == FORM_PIPE:
            code = read_pipe(line, entry)
        elif form == FORM_SYSLOG:
            code = self._read_syslog(line, entry, now_us)
        elif form == FORM_JOURNAL:
            code = read_journal(line, entry)
        else:
            code = self._read_json(line, entry)
        if code:
            return code
        while strip_start(&entry.message, b" ", 1) or strip_start(&entry.message, b"\xef\xbb\xbf", 3):
            pass
        entry.rsyslog = form == FORM_PIPE or (form == FORM_SYSLOG and self._enveloped)
        if entry.message.len > LINE_BYTES_MAX:
            return REJECT_LONG
        return 0 if entry.message.len else REJECT_BLANK

    cdef int _read_syslog(self, Span line, Entry *entry, int64_t now_us) except -100:
        # `[<PRI>]TIME [HOST ]TAG: MESSAGE`, RFC 5424, or the bare message of sshd -E.
        cdef const uint8_t *p = line.ptr
        cdef const uint8_t *end = line.ptr + line.len
        cdef const uint8_t *close
        cdef bint priority = False
        cdef int month
        if p[0] == c'<':
            close = <const uint8_t *>memchr(p, c'>', <size_t>min(line.len, <Py_ssize_t>6))
            if close is NULL:
                return REJECT_ENVELOPE
            p = close + 1
            priority = True
            if end - p > 2 and p[0] == c'1' and p[1] == c' ':
                p += 2
                self._believe(entry)
                return read_rfc5424(p, end, entry)
        month = month_of(p, end)
        if month:
            if not self._read_rfc3164_time(&p, end, month, entry, now_us):
                return REJECT_ENVELOPE
        elif not read_iso(&p, end, entry):
            if priority or self._enveloped:
                return REJECT_ENVELOPE
            entry.message = line
            entry.flags |= FLAG_UNESCAPED
            return 0
        if not read_byte(&p, end, c' '):
            return REJECT_ENVELOPE
        while p < end and p[0] == c' ':
            p += 1
        self._believe(entry)
        return read_tagged(p, end, entry)

    cdef void _believe(self, Entry *entry) noexcept:
        # A line has an envelope. Among sshd's bare lines a peer can have put it there.
        if self._bare:
            self._bare -= 1
            entry.flags |= FLAG_UNESCAPED
        else:
            self._enveloped = True

    cdef bint _read_rfc3164_time(
        self, const uint8_t **cursor, const uint8_t *end, int month, Entry *entry, int64_t now_us
    ) except -1:
        # `Jul  9 15:00:29`: no year, no zone; what minute that was, logins.py knows.
        cdef const uint8_t *p = cursor[0] + 4
        cdef int64_t day, clock, key
        read_byte(&p, end, c' ')
        day = digits(&p, end, 2)
        if day < 1 or day > 31 or not read_byte(&p, end, c' '):
            return False
        clock = read_clock(&p, end)
        if clock < 0:
            return False
        entry.digits = 0
        entry.time_us = read_fraction(&p, end, &entry.digits)
        key = (month * 100 + day) * 1440 + clock // 60
        if key != self._minute_key:
            self._minute_us = self._minute(month, day, clock // 3600, clock // 60 % 60, now_us)
            self._minute_key = key
        if self._minute_us < 0:
            return False
        entry.time_us += self._minute_us + clock % 60 * 1000000
        entry.flags |= FLAG_TIMED
        cursor[0] = p
        return True

    cdef int _read_json(self, Span line, Entry *entry) except -100:
        found = self._entry(PyBytes_FromStringAndSize(<const char *>line.ptr, line.len))
        if found is None:
            return REJECT_ENVELOPE
        if isinstance(found, str):
            return REJECT_OTHER
        entry.time_us, entry.pid, trust, self._message = found
        entry.message = span_of(<const uint8_t *>PyBytes_AS_STRING(self._message), PyBytes_GET_SIZE(self._message))
        entry.flags |= FLAG_TIMED
        if not trust:
            return REJECT_FORGED
        trust_entry(entry, trust)
        return 0

    cdef int _scan_entry(self, Entry *entry) except -1000:
        # Match a message and give it to the sink: 0, or why it was not.
        cdef Match *match
        cdef Span message = entry.message
        cdef uint32_t repeat = 0
        cdef bint cut
        cdef int64_t pid = 0
        if strip_repeated(&message, &repeat):
            entry.message = message
        cut = may_be_cut(message)
        if not strip_start(&message, b"error: ", 7) and not strip_start(&message, b"fatal: ", 7):
            if message.len > 8 and memcmp(message.ptr, b"debug", 5) == 0 and message.ptr[6] == c':':
                return REJECT_DEBUG
        entry.preauth = strip_end(&message, b" [preauth]", 10)
        entry.twice = entry.preauth or strip_end(&message, b" [postauth]", 11)
        entry.preauth = entry.preauth or cut
        if strip_verbose(&message, &pid) and not entry.flags & FLAG_UNESCAPED:
            entry.pid = entry.pid or pid
        match = self._match(message, cut)
        if match is NULL:
            return REJECT_UNMATCHED
        self._row_hits[match.variant.row] += 1
        self._ambiguous += (match.flags & FLAG_AMBIGUOUS) != 0
        self._cut += (match.flags & FLAG_CUT) != 0
        self._repeated += repeat
        return self._sink.take_line(entry, match, min(repeat, <uint32_t>REPEAT_MAX))

    cdef Match *_match(self, Span message, bint cut) noexcept:
        # The reading whose first free field ends first; of equal ones, the first in the table. NULL for none.
        # It is the scanner's, until the next line.
        cdef bint doubt = False
        cdef int turn
        cdef int turns = TURNS
        cdef Glance glance
        cdef Match *best = &self._matches[0]
        cdef Match *spare = &self._matches[1]
        glance_at(message, &glance)
        best.variant = NULL
        for turn in range(turns):
            if turn == TURN_CUT and not cut:
                continue
            if message.len >= 4:
                doubt |= best_of(self._variants.buckets[turn][bucket_of(message.ptr)], message, &glance, cut, &best, &spare)
            doubt |= best_of(self._variants.anywhere[turn], message, &glance, cut, &best, &spare)
            if best.variant is not NULL:
                break
        if best.variant is NULL:
            return NULL
        if doubt and best.variant.free_count and not best.variant.known & 1:
            best.flags |= FLAG_AMBIGUOUS
            best.read = 0
        if cut and best.variant.open_end:
            best.flags |= FLAG_CUT
            if best.variant.last_field >= 0:
                forget_field(best, best.variant.last_field)
        return best

    def read(self, message: bytes) -> tuple | None:
        """A bare message as (row, fields, flags), for tests and for people; None when no row knows it."""
        cdef Match *match
        cdef Entry entry
        cdef Span span = span_of(<const uint8_t *>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        cdef int i
        match = self._match(span, may_be_cut(span))
        if match is NULL:
            return None
        memset(&entry, 0, sizeof(entry))
        names = self._variants.row_fields[match.variant.row]
        fields = {}
        for i, name in enumerate(names):
            text = (<tuple>self._variants.words[match.variant.number])[i]
            if match.read >> i & 1:
                text = text_of(match.spans[i], &entry, self._variants.vis[match.variant.row])
            if text is not None:
                fields[name] = text
        return match.variant.row, fields, match.flags

    cdef int _reject(self, Span line, Span message, int code) except -1:
        cdef bytes text = b""
        self._rejects[-code] += 1
        if code == REJECT_BLANK or code == REJECT_OTHER or code == REJECT_DEBUG:
            return 0
        if self._keep_all or PyList_GET_SIZE(self._rejected) < SAMPLES_MAX:
            if code == REJECT_UNMATCHED:
                text = PyBytes_FromStringAndSize(<const char *>message.ptr, message.len)
            self._rejected.append((PyBytes_FromStringAndSize(<const char *>line.ptr, line.len), REJECTS[-code], text))
        return 0

    # What is told besides.

    def take_rejected(self) -> list:
        rejected = self._rejected
        if rejected:
            self._rejected = []
        return rejected

    @property
    def pending_bytes(self) -> int:
        return self._pending

    def counters(self) -> dict:
        cdef int i
        counts = {"lines": self._lines}
        for i in range(1, 8):
            counts["unmatched_lines" if -i == REJECT_UNMATCHED else REJECTS[i]] = self._rejects[i]
        counts["ambiguous"] = self._ambiguous
        counts["cut"] = self._cut
        counts["repeated"] = self._repeated
        return counts

    def row_hits(self) -> list:
        return [self._row_hits[i] for i in range(len(self._variants.row_fields))]
