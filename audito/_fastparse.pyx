"""The compiled core: bytes in, whole audit events of ssh sessions out. See _fastparse.pxd for the structs."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from audito._gaps cimport Serials
from audito._scan cimport (
    SCAN_BAD_STAMP, SCAN_NOT_A_RECORD, SES_UNSET, Header, Span, byte_at, digits, ends_hash, is_type_name, read_header,
    same_bytes, span_of, span_starts,
)
from audito._sessions cimport (
    CACHE_LINE, EVENT_ENDS_SESSION, EVENT_LOGIN, EVENT_TRUNCATED, JOINED_BY_KERNEL, JOINED_BY_PID, JOINED_BY_VENDOR,
    LIST_WAITING, SESSION_BOUND, SESSION_CANDIDATE, SESSION_FREE, SESSION_KERNEL, SESSION_SSHD, Event, Record, Session,
    Sessions, first_record, next_record, record_before_end, record_body,
)
from audito._whose cimport (
    NO_SES, Actor, LoginRecord, glued, is_channel, is_sshd, read_actor, read_login, read_ses,
)

# No time is later.
cdef uint64_t NEVER_MS = <uint64_t>-1

cdef extern from *:
    void __builtin_prefetch(const void *address) nogil

cdef extern from "string.h" nogil:
    void *memmem(const void *haystack, size_t haystack_len, const void *needle, size_t needle_len)

cdef enum:
    NOT_OURS = -2                   # decide(): the event is ignored
    TIME_OUT_STEPS_MAX = 16         # flights that are not due that time_out() passes over
    TYPE_NAME_END = 32              # where most types' names end at the latest; a longer one goes the long way
    TOO_LONG = -3                   # beside the ScanErrors: the line passes LINE_BYTES_MAX

# What Python has to know of the enums in the .pxd.
FLAG_SESSION = TYPE_SESSION
FLAG_SINGLE = TYPE_SINGLE
FLAG_ENDS = TYPE_ENDS
FLAG_STATE = TYPE_STATE

# ---------------------------------------------------------------------------------------------- leaves


cdef inline Py_ssize_t trimmed(const uint8_t *line, Py_ssize_t length) noexcept nogil:
    # The length of a line without what a writer may leave at its end: CR, NUL, blanks.
    while length and (line[length - 1] == c'\r' or line[length - 1] == 0 or line[length - 1] == c' '):
        length -= 1
    return length


cdef inline uint32_t flight_hash(uint64_t ts_ms, uint32_t seq, uint32_t node) noexcept nogil:
    return (seq * 2654435761u ^ <uint32_t>ts_ms * 40503u ^ node) & (INFLIGHT_INDEX - 1)


cdef class EventSink:

    cdef int take_event(self, Event *event, Session *session) except -1:
        raise NotImplementedError("take_event")


# ------------------------------------------------------------------------------------------ record types

cdef class Types:

    def __cinit__(self, rows):
        for name, number, flags in rows:
            self.add(name.encode(), number, flags)

    cdef int add(self, bytes name, int number, int flags) except -1:
        # A row of the type table; names of up to TYPE_ROW_NAME_MAX bytes, as auditd prints them.
        cdef Span span = span_of(<const uint8_t *><const char *>name, len(name))
        cdef uint32_t i = ends_hash(span.ptr, span.len) & (TYPE_INDEX - 1)
        if len(name) > TYPE_ROW_NAME_MAX or not 0 < number < TYPES_MAX:
            raise ValueError(f"record type {name!r} = {number}")
        while self.rows[i].len:
            i = (i + 1) & (TYPE_INDEX - 1)
        memcpy(self.rows[i].name, span.ptr, <size_t>span.len)
        self.rows[i].len = <uint8_t>span.len
        self.rows[i].number = <uint16_t>number
        self.flags[number] = <uint8_t>(flags | TYPE_KNOWN)
        return 0


# ------------------------------------------------------------------------------------------ audit stream

cdef class AuditStream:

    def __cinit__(self, Sessions sessions, EventSink sink, Types types not None, *, bint keep_all=False, reject=None,
                  opened=None, inherited=None, ended=None, told=None, crowded=None,
                  gaps=None):
        self.oldest = self.newest = self.last_flight = self.stamp_flight = -1
        self.sessions = sessions
        self.sink = sink
        self.types = types
        self.keep_all = keep_all
        self.reject = reject
        self.opened = opened
        self.inherited = inherited
        self.ended = ended
        self.told = told
        self.crowded = crowded
        self.gaps = gaps
        self.serials = Serials(gaps)
        self.carry_buffer = bytearray(LINE_BYTES_MAX + 1)
        self.done = <Done *>PyMem_Calloc(DONE_RING, sizeof(Done))
        self.flights = <Flight *>PyMem_Calloc(INFLIGHT_EVENTS_MAX, sizeof(Flight))
        if not self.done or not self.flights:
            raise MemoryError()
        self.done[0].seq = 1        # no sequence has this in this place, and none 0 in another: nothing is done yet
        self.due_ms = NEVER_MS

    def __dealloc__(self):
        cdef Event *event
        while self.flights is not NULL and self.oldest >= 0:
            free(self.flights[self.oldest].event)
            self.oldest = self.flights[self.oldest].newer
        while self.free_events is not NULL:
            event = self.free_events
            self.free_events = event.next
            free(event)
        PyMem_Free(self.done)
        PyMem_Free(self.flights)

    # ------------------------------------------------------------------------------ record types

    cdef uint16_t type_number(self, Span name) noexcept nogil:
        # Number of a record type by its name, by `UNKNOWN[n]` or by `n`; 0 when nothing tells it, TYPE_NO_NAME for what
        # cannot be the name of one: a log that was cut goes on as `type=SYSCALtype=CRED_ACQ msg=…`.
        cdef uint32_t i = ends_hash(name.ptr, name.len) & (TYPE_INDEX - 1)
        cdef const TypeRow *rows = self.types.rows
        cdef const uint8_t *p
        cdef int64_t number
        while rows[i].len:
            if rows[i].len == name.len and same_bytes(rows[i].name, name.ptr, name.len):
                return rows[i].number
            i = (i + 1) & (TYPE_INDEX - 1)
        if not is_type_name(name):
            return TYPE_NO_NAME
        self.types_unknown += 1
        p = name.ptr
        if span_starts(name, b"UNKNOWN[", 8) and name.ptr[name.len - 1] == c']':
            p += 8
        number = digits(&p, name.ptr + name.len, 5)
        return <uint16_t>number if 0 < number < 0xFFFF else 0

    cdef inline uint8_t flags_of(self, uint16_t type) noexcept nogil:
        # A type without a row may say whose session it is, and is a whole event if its number says so, as auparse
        # has it; one without a number waits for the end of its event, or for the time-out.
        if 0 < type < TYPES_MAX and self.types.flags[type]:
            return self.types.flags[type]
        if TYPE_DAEMON_START <= type <= TYPE_DAEMON_LAST:
            return TYPE_SESSION | TYPE_SINGLE | TYPE_STATE
        if TYPE_LOGIN < type < TYPE_SYSCALL or type >= TYPE_SINGLE_FROM:
            return TYPE_SESSION | TYPE_SINGLE
        return TYPE_SESSION

    # ------------------------------------------------------------------------------ framing

    def feed(self, const uint8_t[::1] data not None):
        cdef const uint8_t *p
        cdef const uint8_t *end
        cdef const uint8_t *newline
        cdef uint64_t start = self.offset
        if data.shape[0] == 0:
            return
        p = &data[0]
        end = p + data.shape[0]
        if self.carried or self.skipping:
            p = self.finish_carried(p, end)
        self.offset = start + <uint64_t>data.shape[0]
        while p < end:
            newline = <const uint8_t *>memchr(p, c'\n', <size_t>(end - p))
            self.line_offset = self.offset - <uint64_t>(end - p)
            if newline is NULL:
                self.carry(p, end - p)
                return
            self.take_line(p, newline - p)
            p = newline + 1

    cdef const uint8_t *finish_carried(self, const uint8_t *p, const uint8_t *end) except NULL:
        # Complete the line that began in an earlier chunk; returns where the next line starts.
        cdef const uint8_t *newline = <const uint8_t *>memchr(p, c'\n', <size_t>(end - p))
        cdef Py_ssize_t length
        if newline is NULL:
            self.carry(p, end - p)
            return end
        self.carry(p, newline - p)
        length = self.carried
        self.carried = 0
        if self.skipping:
            self.skipping = False
        else:
            self.take_line(<const uint8_t *><char *>self.carry_buffer, length)
        return newline + 1

    cdef int carry(self, const uint8_t *p, Py_ssize_t len) except -1:
        # Keep the start of a line; one that passes LINE_BYTES_MAX is rejected now and its rest skipped.
        if self.skipping:
            return 0
        if self.carried == 0:
            while len and p[0] == 0:            # blocks that a power loss left full of NULs
                p += 1
                len -= 1
        if self.carried + len > LINE_BYTES_MAX:
            memcpy(<char *>self.carry_buffer + self.carried, p, LINE_BYTES_MAX - self.carried)
            self.carried = 0
            self.skipping = True
            self.lines += 1
            return self.reject_line(<const uint8_t *><char *>self.carry_buffer, LINE_BYTES_MAX, TOO_LONG)
        memcpy(<char *>self.carry_buffer + self.carried, p, <size_t>len)
        self.carried += <uint32_t>len
        return 0

    cdef int take_line(self, const uint8_t *line, Py_ssize_t length) except -1:
        cdef Header header
        cdef int code
        cdef const uint8_t *blank
        self.lines += 1
        if self.stamp_len and length > 12 + self.stamp_len and (line[6] != c'O' or line[5] == c'S'):
            # Most lines carry the stamp of the line before: the next record of an event that is ignored, or kept.
            # Not so LOGIN and CONFIG_CHANGE, which are looked at wherever they stand.
            # No type's name is shorter than three letters.
            blank = byte_at(line + 8, line + min(length, TYPE_NAME_END), c' ')
            if blank is not NULL and line + length > blank + self.stamp_len and same_bytes(
                    blank + 1, self.stamp, self.stamp_len) and memcmp(line, b"type=", 5) == 0:
                if self.stamp_flight < 0:
                    self.skipped += 1
                    return 0
                return self.take_next(line, length, blank)
        length = trimmed(line, length)
        while length and line[0] == 0:
            line += 1
            length -= 1
        if length == 0:
            self.blank_lines += 1
            return 0
        if length > LINE_BYTES_MAX:
            return self.reject_line(line, length, TOO_LONG)
        code = read_header(span_of(line, length), &header)
        if code < 0:
            return self.reject_line(line, length, code)
        return self.take_record(span_of(line, length), &header)

    cdef int take_next(self, const uint8_t *line, Py_ssize_t length, const uint8_t *blank) except -1:
        # A further record of the kept event in hand: its header needs no reading, its event no search.
        cdef Header header
        cdef uint16_t type
        length = trimmed(line, length)
        if length > LINE_BYTES_MAX:
            return self.reject_line(line, length, TOO_LONG)
        header.name = span_of(line + 5, blank - line - 5)
        header.text = 0
        header.body = <uint32_t>(blank + 1 - line) + self.stamp_len
        while header.body < length and line[header.body] == c' ':
            header.body += 1
        type = self.type_number(header.name)
        if type == TYPE_NO_NAME:
            return self.reject_line(line, length, SCAN_NOT_A_RECORD)
        self.records += 1
        return self.append(self.stamp_flight, span_of(line, length), &header, type, self.flags_of(type))

    cdef void remember_stamp(self, Span line, Header *header, int32_t flight) noexcept nogil:
        # Lines with this stamp belong to `flight`, or to an ignored event (-1). With the `:` behind it: a stamp that
        # merely begins alike is another event's. A line with node= goes the long way.
        self.stamp_len = 0
        if header.stamp_len < STAMP_BYTES_MAX and header.text == 0:
            memcpy(self.stamp, line.ptr + header.stamp, header.stamp_len + 1)
            self.stamp_len = header.stamp_len + 1
            self.stamp_flight = flight

    cdef int reject_line(self, const uint8_t *line, Py_ssize_t length, int code) except -1:
        if code == TOO_LONG:
            self.reject_too_long += 1
            self.lose_line(line, min(length, LINE_BYTES_MAX))
        elif code == SCAN_BAD_STAMP:
            self.reject_bad_stamp += 1
        else:
            self.reject_not_a_record += 1
            if self.gaps is not None and self.line_offset >= self.known_offset and (
                    memmem(line, <size_t>length, b"audit: ", 7) is not NULL):
                self.gaps.other_line(PyBytes_FromStringAndSize(<const char *>line, length), self.clock_ms)
        if self.reject is not None:
            reason = {TOO_LONG: "too long", SCAN_BAD_STAMP: "bad stamp"}.get(code, "not a record")
            try:
                self.reject(PyBytes_FromStringAndSize(<const char *>line, min(length, LINE_BYTES_MAX)), reason)
            except Exception:
                self.rejects_failed += 1        # whoever wants copies: the lines behind this one come first
        return 0

    cdef int lose_line(self, const uint8_t *line, Py_ssize_t length) except -1:
        # A line that is too long to be read: what it tells is missing, but its serial came.
        cdef Header header
        cdef bint named = self.serials.read(line, length, &header)
        if named:
            self.note(span_of(line, length), &header, self.type_number(header.name))
        if self.gaps is None or self.line_offset < self.known_offset:
            return 0
        self.gaps.too_long(self.node_name(line, &header) if named else b"", header.seq if named else None,
                           header.ts_ms if named else self.clock_ms)
        return 0

    # ------------------------------------------------------------------------------ auditing itself

    cdef int note(self, Span line, Header *header, uint16_t type) except -1:
        cdef NodeClock *clock = self.clock_of(header.node)
        if self.serials.note(header, line.ptr, max(clock.before_ms, clock.top_ms), clock.ms, type):
            clock.top_ms = 0
        return 0

    cdef int take_state(self, Span line, Header *header, uint16_t type) except -1:
        # A record about auditing itself: it is told whosever it is. What is read again was told.
        cdef bint known = self.line_offset < self.known_offset
        if type != TYPE_CONFIG_CHANGE:
            self.serials.leave()            # what follows is a count of auditd's own, and never the next of the kernel
        if type == TYPE_DAEMON_START and not known:
            self.serials.restart(header.node)
        if self.gaps is None or known:
            return 0
        off = self.gaps.state_record(PyBytes_FromStringAndSize(<const char *>line.ptr + header.text,
                                                               line.len - header.text),
                                     self.node_name(line.ptr, header), header.seq, header.ts_ms)
        if off is not None:
            self.note(line, header, type)
            self.serials.switch(header.node, header.ts_ms if off else 0)
        return 0

    cdef bytes node_name(self, const uint8_t *line, Header *header):
        # Of `node=NAME type=`; b"" without one.
        return PyBytes_FromStringAndSize(<const char *>line + 5, max(<Py_ssize_t>header.text - 6, 0))

    # ------------------------------------------------------------------------------ reassembly

    cdef int take_record(self, Span line, Header *header) except -1:
        cdef uint16_t type = self.type_number(header.name)
        cdef uint8_t flags
        cdef int32_t flight
        cdef Done *done
        if type == TYPE_NO_NAME:
            return self.reject_line(line.ptr, line.len, SCAN_NOT_A_RECORD)
        flags = self.flags_of(type)
        self.records += 1
        self.clock_ms = self.move_clock(header)
        self.top_ms = max(self.top_ms, header.ts_ms)
        if self.clock_ms > self.due_ms:
            self.time_out()
        if flags & TYPE_STATE:
            self.take_state(line, header, type)
        flight = self.flight_of(header)
        if flight < 0:
            done = &self.done[header.seq & (DONE_RING - 1)]
            if done.ts_ms == header.ts_ms and done.seq == header.seq and done.node == header.node:
                if type != TYPE_LOGIN:
                    if done.kept and type != TYPE_EOE:
                        self.events_late += 1
                    return 0
            if header.seq == self.serials.next_seq and header.node == self.serials.next_node and flags & TYPE_KNOWN:
                self.serials.next_seq += 1  # mostly: all came, and this one is the next
            else:
                self.note(line, header, type)
            if type == TYPE_EOE or (self.again is not None and self.is_over(header)):
                return 0                    # of an event that is over
            if self.free_flight == INFLIGHT_EVENTS_MAX:
                self.force_oldest()         # before a session is looked up: it may close that one
        if not self.keep_all and flags & TYPE_SESSION and (flight < 0 or not self.flights[flight].keep):
            flight = self.decide(line, header, type, flags, flight)
            if flight == NOT_OURS:
                return 0
        if flight < 0:
            flight = self.flight_open(header)
            self.flights[flight].keep = <uint8_t>self.keep_all
        if self.flights[flight].keep and not flags & TYPE_SINGLE:
            self.remember_stamp(line, header, flight)
        return self.append(flight, line, header, type, flags)

    cdef bint is_over(self, Header *header) except -1:
        # Whether an event that is read again was written, or let go, before the checkpoint. One that the record time
        # of that moment does not cover cannot have been, whatever a source gives for what it gave before.
        if self.line_offset >= self.again_until:
            self.again = None
            return False
        return header.ts_ms <= self.again_ms and (header.node, header.ts_ms, header.seq) not in self.again

    cdef int32_t decide(self, Span line, Header *header, uint16_t type, uint8_t flags, int32_t flight) except -3:
        # A record that may say whose session its event belongs to. Ours: the flight, opened and kept.
        # Not ours: NOT_OURS, and the event is ignored from here on. It does not say: the flight as it was.
        cdef Span body = span_of(line.ptr + header.body, line.len - header.body)
        cdef int64_t ses
        cdef int32_t slot = -1
        cdef bint by_kernel = type == TYPE_LOGIN or (TYPE_SYSCALL <= type < TYPE_SINGLE_FROM and flags & TYPE_KNOWN)
        cdef const uint8_t *rest
        if type == TYPE_LOGIN:
            rest = glued(body)
            if rest is not NULL:
                return self.take_apart(line, rest)
            slot = self.open_by_login(header, body)
        else:
            ses = read_ses(body, by_kernel, &self.ses_hint)
            if ses == NO_SES:
                return flight
            if ses != SES_UNSET:
                slot = self.sessions.find(header.node, <uint32_t>ses)
                if slot >= 0 and by_kernel:
                    rest = glued(body)
                    if rest is not NULL:
                        return self.take_apart(line, rest)
                if slot < 0 and type == TYPE_USER_START:
                    slot = self.open_by_start(body, header, <uint32_t>ses)
                if slot >= 0 and self.sessions.slots[slot].login_flight:
                    self.complete_login(slot)
                    if self.sessions.slots[slot].state == SESSION_FREE:
                        slot = -1
        if slot < 0:
            if (TYPE_USER_FIRST <= type <= TYPE_CRED_ACQ or type == TYPE_CRYPTO_KEY_USER) and self.told is not None:
                self.tell(line, header, body)
            self.ignore(line, header, flags, flight)
            return NOT_OURS
        # Whoever writes the event, four records later, needs these lines: by then they have come from memory.
        __builtin_prefetch(self.sessions.slots[slot].identity)
        __builtin_prefetch(<uint8_t *>self.sessions.slots[slot].identity + CACHE_LINE)
        __builtin_prefetch(<uint8_t *>self.sessions.slots[slot].identity + 2 * CACHE_LINE)
        if flight < 0:
            flight = self.flight_open(header)
        self.flights[flight].keep = True
        self.flights[flight].event.session = slot
        self.flights[flight].event.generation = self.sessions.slots[slot].generation
        if type == TYPE_LOGIN and self.sessions.slots[slot].open_ms == header.ts_ms:
            self.flights[flight].event.flags |= EVENT_LOGIN
            self.sessions.slots[slot].login_flight = flight + 1
        return flight

    cdef int32_t take_apart(self, Span line, const uint8_t *rest) except -3:
        # The starts of records and a whole one: the session may be the last one's. They count as two lines.
        self.records -= 1
        self.reject_line(line.ptr, rest - line.ptr, SCAN_NOT_A_RECORD)
        self.take_line(rest, line.ptr + line.len - rest)
        return NOT_OURS

    cdef int32_t open_by_login(self, Header *header, Span body) except -3:
        # The session that a LOGIN record opens; where it opens none, the one that its process is in, -1: none of ours.
        cdef LoginRecord login
        cdef int32_t parent = -1
        cdef int32_t slot
        read_login(body, &login)
        if login.old_ses != SES_UNSET:
            parent = self.sessions.find(header.node, login.old_ses)
        if login.ses == SES_UNSET or not login.succeeded:
            return parent                       # a refused or cleared loginuid: told in the session that tried
        if self.sessions.must_give_up() and self.crowded is not None:
            self.crowded(self.sessions.heads[LIST_WAITING])
        slot = self.sessions.open(header.node, login.ses, login.pid, header.ts_ms)
        if self.sessions.slots[slot].born_ms == 0:
            self.sessions.slots[slot].born_ms = self.now_ms
        if parent >= 0 and self.sessions.slots[parent].state != SESSION_FREE and parent != slot:
            self.sessions.slots[slot].parent = parent
            self.sessions.slots[slot].parent_generation = self.sessions.slots[parent].generation
        return slot

    cdef int tell(self, Span line, Header *header, Span body) except -1:
        # USER_AUTH, USER_ACCT, CRED_ACQ, CRYPTO_KEY_USER before a login's session is opened: sshd says what it let in.
        cdef Actor actor
        read_actor(body, &actor)
        if actor.pid and is_sshd(actor.exe):
            self.told(actor.pid, header.ts_ms, PyBytes_FromStringAndSize(<const char *>line.ptr, line.len))
        return 0

    cdef int32_t open_by_start(self, Span body, Header *header, uint32_t ses) except -2:
        # USER_START of sshd for a session whose LOGIN we never saw (auditd, or we, started after it).
        cdef Actor actor
        cdef int32_t slot
        read_actor(body, &actor)
        if actor.pid == 0 or not is_sshd(actor.exe):
            return -1
        if self.sessions.must_give_up() and self.crowded is not None:
            self.crowded(self.sessions.heads[LIST_WAITING])
        slot = self.sessions.open(header.node, ses, actor.pid, header.ts_ms)
        self.sessions.slots[slot].state = SESSION_SSHD
        self.sessions.slots[slot].proven = True
        return slot

    cdef int ignore(self, Span line, Header *header, uint8_t flags, int32_t flight) except -1:
        # Not ours: forget what is in flight of it, and skip its further records on sight.
        cdef Event *event
        self.events_ignored += 1
        if flight >= 0:
            event = self.flights[flight].event
            self.flight_close(flight)
            self.event_free(event)
        else:
            self.mark_done(header.ts_ms, header.seq, header.node, False)
        if not flags & TYPE_SINGLE:
            self.remember_stamp(line, header, -1)
        return 0

    cdef inline void mark_done(self, uint64_t ts_ms, uint32_t seq, uint32_t node, bint kept) noexcept nogil:
        cdef Done *done = &self.done[seq & (DONE_RING - 1)]
        done.ts_ms = ts_ms
        done.seq = seq
        done.node = node
        done.kept = kept

    cdef int append(self, int32_t flight, Span line, Header *header, uint16_t type, uint8_t flags) except -1:
        cdef Event *event = self.flights[flight].event
        if type != TYPE_EOE:
            self.inflight_bytes -= event.size
            event = self.event_append(event, line, header, type)
            self.flights[flight].event = event
            self.inflight_bytes += event.size
        if flags & TYPE_ENDS or (flags & TYPE_SINGLE and event.records == 1):
            return self.complete(flight)
        while self.inflight_bytes > INFLIGHT_BYTES_MAX and self.oldest != flight:
            self.force_oldest()
        return 0

    cdef int32_t flight_of(self, Header *header) noexcept nogil:
        # The flight of this event, -1: none.
        cdef int32_t flight = self.last_flight
        cdef Event *event
        cdef uint32_t i
        if flight >= 0:
            event = self.flights[flight].event
            if event.seq == header.seq and event.ts_ms == header.ts_ms and event.node == header.node:
                return flight
        i = flight_hash(header.ts_ms, header.seq, header.node)
        while self.index[i]:
            flight = self.index[i] - 1
            event = self.flights[flight].event
            if event.seq == header.seq and event.ts_ms == header.ts_ms and event.node == header.node:
                self.last_flight = flight
                return flight
            i = (i + 1) & (INFLIGHT_INDEX - 1)
        return -1

    cdef int32_t flight_open(self, Header *header) except -2:
        cdef int32_t flight
        cdef Event *event
        cdef uint32_t i
        if self.free_flight == INFLIGHT_EVENTS_MAX:
            self.force_oldest()
        if self.again is not None:
            self.again.discard((header.node, header.ts_ms, header.seq))  # from here on we have it
        event = self.event_new()
        flight = self.free_flight
        self.free_flight = flight + 1 + self.flights[flight].newer
        event.ts_ms = header.ts_ms
        event.seq = header.seq
        event.node = header.node
        event.offset = self.line_offset
        self.flights[flight].event = event
        self.flights[flight].born_ms = self.now_ms
        self.flights[flight].opened_ms = max(self.clock_of(header.node).ms, header.ts_ms)
        self.due_ms = min(self.due_ms, self.flights[flight].opened_ms + EVENT_TIMEOUT_MS)
        self.inflight_bytes += event.size
        self.flights[flight].keep = False
        self.flights[flight].older = self.newest
        self.flights[flight].newer = -1
        if self.newest >= 0:
            self.flights[self.newest].newer = flight
        else:
            self.oldest = flight
        self.newest = flight
        i = flight_hash(header.ts_ms, header.seq, header.node)
        while self.index[i]:
            i = (i + 1) & (INFLIGHT_INDEX - 1)
        self.index[i] = <uint16_t>(flight + 1)
        self.last_flight = flight
        return flight

    cdef void flight_close(self, int32_t flight) noexcept nogil:
        # Take a flight out of the index and the age list. Its event is the caller's now.
        cdef Flight *f = &self.flights[flight]
        cdef Event *other
        cdef uint32_t i = flight_hash(f.event.ts_ms, f.event.seq, f.event.node)
        cdef uint32_t hole, home
        self.inflight_bytes -= f.event.size
        self.mark_done(f.event.ts_ms, f.event.seq, f.event.node, f.keep)
        while self.index[i] != flight + 1:
            i = (i + 1) & (INFLIGHT_INDEX - 1)
        hole = i
        self.index[hole] = 0
        while True:
            i = (i + 1) & (INFLIGHT_INDEX - 1)
            if self.index[i] == 0:
                break
            other = self.flights[self.index[i] - 1].event
            home = flight_hash(other.ts_ms, other.seq, other.node)
            if ((i - home) & (INFLIGHT_INDEX - 1)) >= ((i - hole) & (INFLIGHT_INDEX - 1)):
                self.index[hole] = self.index[i]
                self.index[i] = 0
                hole = i
        if f.older >= 0:
            self.flights[f.older].newer = f.newer
        else:
            self.oldest = f.newer
        if f.newer >= 0:
            self.flights[f.newer].older = f.older
        else:
            self.newest = f.older
        f.event = NULL
        f.newer = self.free_flight - flight - 1
        self.free_flight = flight
        if self.last_flight == flight:
            self.last_flight = -1
        if self.stamp_flight == flight:
            self.stamp_flight = -1
            self.stamp_len = 0

    cdef NodeClock *clock_of(self, uint32_t node) noexcept nogil:
        cdef NodeClock *clock = &self.clocks[node & (NODE_CLOCKS - 1)]
        if clock.node != node:
            clock.node = node
            clock.ms = clock.before_ms = clock.top_ms = clock.jump_ms = 0
        return clock

    cdef uint64_t move_clock(self, Header *header) noexcept nogil:
        # Stamps are those of syscall entry, so they go back and forth a little: the clock is the latest. One that is
        # far off, either way, moves it only when the next agrees: so far, or (a quiet host) as far ahead or more.
        cdef NodeClock *clock = self.clock_of(header.node)
        cdef uint64_t ts_ms = header.ts_ms
        clock.before_ms = clock.ms
        if clock.ms == 0 or (ts_ms <= clock.ms + CLOCK_JUMP_MS and ts_ms + CLOCK_JUMP_MS >= clock.ms):
            clock.ms = max(clock.ms, ts_ms)
            clock.jump_ms = 0
        elif clock.jump_ms == 0:
            clock.jump_ms = ts_ms
        else:
            if clock.jump_ms > clock.ms and ts_ms > clock.ms:
                clock.ms = min(clock.jump_ms, ts_ms)
            elif ts_ms <= clock.jump_ms + CLOCK_JUMP_MS and ts_ms + CLOCK_JUMP_MS >= clock.jump_ms:
                clock.top_ms = max(clock.top_ms, clock.ms)
                clock.ms = ts_ms
            clock.jump_ms = ts_ms
        return clock.ms

    cdef int time_out(self) except -1:
        # Complete what was opened EVENT_TIMEOUT_MS of its node's time ago: auditd writes no EOE to its log. The list
        # is in the order of opening; what is not due (another node's, or stamped in the future) is passed over, a few
        # steps far: mostly there are one or two.
        cdef int32_t flight = self.oldest
        cdef uint64_t due_ms
        cdef int steps = 0
        self.due_ms = NEVER_MS
        while flight >= 0 and steps < TIME_OUT_STEPS_MAX:
            due_ms = self.flights[flight].opened_ms + EVENT_TIMEOUT_MS
            if due_ms < self.clock_of(self.flights[flight].event.node).ms:
                self.events_timed_out += 1
                self.complete(flight)
                flight = self.oldest        # completing a LOGIN may have completed others
                steps = 0
                self.due_ms = NEVER_MS
                continue
            self.due_ms = min(self.due_ms, due_ms)
            steps += 1
            flight = self.flights[flight].newer
        return 0

    cdef int force_oldest(self) except -1:
        self.events_forced += 1
        return self.complete(self.oldest)

    cdef int complete(self, int32_t flight) except -1:
        cdef Event *event = self.flights[flight].event
        self.flight_close(flight)
        return self.settle(event)

    cdef int complete_login(self, int32_t slot) except -1:
        # The session acts, so the syscall that opened it has returned: a LOGIN that still stands alone stays so.
        cdef int32_t flight = self.sessions.slots[slot].login_flight - 1
        cdef Event *event = self.flights[flight].event
        self.sessions.slots[slot].login_flight = 0
        if event is not NULL and event.flags & EVENT_LOGIN and event.session == slot and (
                event.generation == self.sessions.slots[slot].generation):
            return self.complete(flight)
        return 0

    # ------------------------------------------------------------------------------ whole events

    cdef int settle(self, Event *event) except -1:
        # A whole event: deliver it, hold it until a login line says who, or let it go.
        cdef Session *session
        cdef int32_t slot
        if self.keep_all:
            return self.deliver(event, NULL)
        session = self.session_of(event)
        if session is NULL:
            self.events_ignored += 1
            self.event_free(event)
            return 0
        try:
            if event.flags & EVENT_LOGIN:
                self.judge_login(event, session)
            elif TYPE_USER_FIRST <= event.first_type <= TYPE_USER_LAST:
                self.judge_message(event, session)
            session = self.session_of(event)
            # A USER_START that opens a session says from where that comes: it is told once it is held.
            if session is not NULL and not session.announced and (
                    event.first_type != TYPE_USER_START or session.state >= SESSION_BOUND):
                session.announced = True
                if self.opened is not None:
                    self.opened(event.session)
        except BaseException:
            self.event_free(event)
            raise
        if session is NULL:
            self.events_refused += 1
            self.event_free(event)
            return 0
        session.seen_ms = event.ts_ms
        session.acted = not event.flags & EVENT_LOGIN
        if session.state >= SESSION_BOUND:
            return self.deliver(event, session)
        slot = event.session
        self.hold(event)
        if not session.announced:
            session.announced = True
            if self.opened is not None:
                self.opened(slot)
        return 0

    cdef inline Session *session_of(self, Event *event) noexcept nogil:
        # The session that the event belongs to, NULL when it has none or that one is gone.
        cdef Session *session
        if event.session < 0:
            return NULL
        session = &self.sessions.slots[event.session]
        if session.state == SESSION_FREE or session.generation != event.generation:
            return NULL
        return session

    cdef int judge_login(self, Event *event, Session *session) except -1:
        # Since kernel 5.2 a SYSCALL stands in the event of a LOGIN and says which program opened the session.
        cdef Record *record = first_record(event)
        cdef Actor actor
        session.login_flight = 0
        while record_before_end(event, record):
            if record.type == TYPE_SYSCALL:
                read_actor(record_body(record), &actor)
                if is_sshd(actor.exe if actor.exe.len else actor.comm):
                    session.proven = True
                    if session.state == SESSION_CANDIDATE:
                        session.state = SESSION_SSHD
                elif session.parent >= 0:
                    self.inherit(event, session)
                else:
                    self.refuse(event.session)
                return 0
            record = next_record(record)
        if session.parent >= 0:
            self.inherit(event, session)
        return 0

    cdef int inherit(self, Event *event, Session *session) except -1:
        # Somebody in a session of ours set a loginuid anew (root may): what follows under the new number is still
        # his. The change itself is told in the session that it was made in.
        cdef int32_t child = event.session
        cdef Session *parent = &self.sessions.slots[session.parent]
        if parent.state == SESSION_FREE or parent.generation != session.parent_generation:
            return self.refuse(child)
        session.proven = True
        session.announced = True
        event.session = session.parent
        event.generation = session.parent_generation
        if self.inherited is not None:
            self.inherited(child, event.session)
        return 0

    cdef int judge_message(self, Event *event, Session *session) except -1:
        # A PAM message of the login's own process proves which program that is, and tells the session's end.
        # sudo and su send the same messages from pids of their own: those say nothing about the session.
        cdef Actor actor
        read_actor(record_body(first_record(event)), &actor)
        if actor.pid == 0 or actor.pid != session.pid or actor.exe.len == 0:
            return 0
        if not is_sshd(actor.exe):
            if not session.proven and event.first_type == TYPE_USER_START:
                self.refuse(event.session)
            return 0
        session.proven = True
        if session.state == SESSION_CANDIDATE:
            session.state = SESSION_SSHD
        if (event.first_type == TYPE_USER_END and not is_channel(first_record(event))) or (
                event.first_type == TYPE_CRED_DISP):
            if not session.ended:
                session.ended = True
                session.end_ms = event.ts_ms
                session.end_seq = event.seq
                self.sessions.settle_list(event.session)
                event.flags |= EVENT_ENDS_SESSION
        return 0

    cdef int refuse(self, int32_t slot) except -1:
        # Not sshd's session: cron, systemd --user, a login on the console.
        self.sessions.refused += 1
        self.events_refused += self.held_by(slot)
        self.sessions.close(slot)
        return 0

    cdef uint64_t held_by(self, int32_t slot) noexcept nogil:
        cdef Event *event = self.sessions.slots[slot].held_head
        cdef uint64_t count = 0
        while event is not NULL:
            count += 1
            event = event.next
        return count

    cdef int deliver(self, Event *event, Session *session) except -1:
        cdef int32_t slot = event.session
        cdef bint ends = self.ended is not None and event.flags & EVENT_ENDS_SESSION
        try:
            self.sink.take_event(event, session)
            self.events_taken += 1
        finally:
            self.event_free(event)
        if ends:
            self.ended(slot, session.end_ms)
        return 0

    cdef int hold(self, Event *event) except -1:
        # Keep a copy of just the size it has: an event in flight has room to grow.
        cdef size_t bytes = sizeof(Event) + event.used
        cdef Event *copy = <Event *>malloc(bytes)
        if copy is not NULL:
            memcpy(copy, event, bytes)
            copy.size = copy.used
        self.event_free(event)
        if copy is NULL:
            raise MemoryError()
        self.sessions.hold(copy.session, copy)
        self.events_held += 1
        return 0

    cdef Event *event_new(self) except NULL:
        cdef Event *event = self.free_events
        cdef uint32_t size = EVENT_BYTES_START
        if event is not NULL:
            self.free_events = event.next
            self.free_event_count -= 1
            size = event.size
        else:
            event = <Event *>malloc(sizeof(Event) + EVENT_BYTES_START)
            if event is NULL:
                raise MemoryError()
        memset(event, 0, sizeof(Event))
        event.size = size
        event.session = -1
        return event

    cdef Event *event_append(self, Event *event, Span line, Header *header, uint16_t type) except NULL:
        # Copy a record's line, from `type=`, to the end of the event; the event may move.
        cdef uint32_t length = <uint32_t>line.len - header.text
        cdef uint32_t need = (<uint32_t>sizeof(Record) + length + 7) & ~<uint32_t>7
        cdef uint32_t size
        cdef Event *grown
        cdef Record *record
        if event.used + need > event.size:
            if event.used + need > EVENT_BYTES_MAX:
                if not event.flags & EVENT_TRUNCATED:
                    self.events_truncated += 1
                event.flags |= EVENT_TRUNCATED
                return event
            size = <uint32_t>min(max(event.size * 2, event.used + need), EVENT_BYTES_MAX)
            grown = <Event *>realloc(event, sizeof(Event) + size)
            if grown is NULL:
                raise MemoryError()
            event = grown
            event.size = size
        record = <Record *>(<uint8_t *>first_record(event) + event.used)
        record.len = length
        record.type = type
        record.body = <uint16_t>min(header.body - header.text, <uint32_t>0xFFFF)
        memcpy(<uint8_t *>record + sizeof(Record), line.ptr + header.text, length)
        event.used += need
        if event.used == need:
            event.first_type = type
        event.records += 1
        return event

    cdef void event_free(self, Event *event) noexcept nogil:
        if event.size != EVENT_BYTES_START or self.free_event_count >= FREE_EVENTS_MAX:
            free(event)
            return
        event.next = self.free_events
        self.free_events = event
        self.free_event_count += 1

    # ------------------------------------------------------------------------------ for the core

    def bind(self, int32_t slot, int correlation=JOINED_BY_PID):
        cdef Session *session = self.sessions.checked(slot)
        by_kernel = correlation == JOINED_BY_KERNEL or correlation == JOINED_BY_VENDOR
        session.state = SESSION_KERNEL if by_kernel else SESSION_BOUND
        session.correlation = <uint8_t>correlation
        self.sessions.settle_list(slot)
        self.release(slot)

    cdef int release(self, int32_t slot) except -1:
        # Deliver what a session held, oldest first. The events are exact in size: they are not reused.
        cdef Session *session = &self.sessions.slots[slot]
        cdef Event *event
        while session.held_head is not NULL:
            event = session.held_head
            session.held_head = event.next
            if session.held_head is NULL:
                session.held_tail = NULL
            self.sessions.held_events -= 1
            self.sessions.held_bytes -= event.size + sizeof(Event)
            self.deliver(event, session)
        return 0

    def tick(self, uint64_t now_ms, bint idle=True):
        cdef uint64_t last_ms = self.now_ms
        self.now_ms = now_ms
        while idle and self.oldest >= 0 and self.flights[self.oldest].born_ms + EVENT_TIMEOUT_MS < now_ms:
            if self.flights[self.oldest].born_ms in (0, last_ms):
                # Born before the first tick, or since the last one, and this one is late (a disk that hung): its age
                # counts from now. Less one: the next tick, late or not, does not take it for new again.
                self.flights[self.oldest].born_ms = now_ms - 1
                continue
            self.events_timed_out += 1
            self.complete(self.oldest)
        if idle:
            self.serials.tick(now_ms)

    def flush(self, bint ended=True):
        cdef uint32_t length = self.carried if ended else 0
        self.carried = 0
        self.skipping = False
        if length:
            self.take_line(<const uint8_t *><char *>self.carry_buffer, length)
        while self.oldest >= 0:
            self.complete(self.oldest)
        self.serials.flush()

    def dump_serials(self):
        cdef int i
        cdef dict clocks = {}
        for i in range(NODE_CLOCKS):
            clocks[self.clocks[i].node] = max(self.clocks[i].ms, <uint64_t>clocks.get(self.clocks[i].node, 0))
        return self.serials.dump(clocks)

    @property
    def resolved(self):
        cdef uint64_t oldest = self.line_offset if self.carried or self.skipping else self.offset
        if self.oldest >= 0:
            oldest = min(oldest, self.flights[self.oldest].event.offset)
        return min(oldest, self.sessions.oldest_held_offset())

    @property
    def unresolved_bytes(self):
        # Of lines that were taken: one that is not whole is not, one that was too long is. What a process before this
        # one took counts until it has come again.
        return max(self.line_offset if self.carried else self.offset, self.known_offset) - self.resolved

    def rebase(self, uint64_t offset, uint64_t known_bytes=0):
        if self.lines or self.carried:
            raise ValueError("a stream that was fed has its offsets")
        self.offset = self.line_offset = offset
        self.known_offset = offset + known_bytes

    def cut_line(self):
        # Its end is skipped when it comes.
        cdef Py_ssize_t length = self.carried
        if length:
            self.carried = 0
            self.skipping = True
            self.lines += 1
            self.reject_line(<const uint8_t *><char *>self.carry_buffer, length, SCAN_NOT_A_RECORD)

    def skip(self, uint64_t count):
        self.offset += count
        if not self.carried and not self.skipping:
            self.line_offset = self.offset

    def forget_known(self):
        self.known_offset = self.again_until = 0
        self.again = None

    @property
    def taken(self):
        # What a process before this one took counts until it has come again.
        return max(self.line_offset if self.carried or self.skipping else self.offset, self.again_until)

    def open_events(self):
        cdef int32_t flight = self.oldest
        cdef list found = self.sessions.held_stamps()
        while flight >= 0:
            found.append((self.flights[flight].event.node, self.flights[flight].event.ts_ms,
                          self.flights[flight].event.seq))
            flight = self.flights[flight].newer
        if self.again is not None and self.offset < self.again_until:
            found.extend(self.again)        # killed before they came again, we need to know them the next time
        return found

    def read_again(self, open_events, uint64_t until, uint64_t clock_ms):
        self.again = set(open_events)
        self.serials.expect(self.again)
        self.again_until = until
        self.again_ms = self.top_ms = clock_ms

    @property
    def oldest_inflight(self):
        return None if self.oldest < 0 else self.flights[self.oldest].event.offset

    @property
    def inflight(self):
        cdef int32_t flight = self.oldest
        cdef int count = 0
        while flight >= 0:
            count += 1
            flight = self.flights[flight].newer
        return count

