"""The compiled core: bytes in, whole audit events of ssh sessions out. See _fastparse.pxd for the structs."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from audito._scan cimport (
    SCAN_BAD_STAMP, SES_UNSET, Header, Span, digits, ends_text, load8, next_field, read_header,
    span_int, span_is, span_of, span_starts, unquoted,
)

# No time is later.
cdef uint64_t NEVER_MS = <uint64_t>-1

cdef extern from "string.h" nogil:
    void *memmem(const void *haystack, size_t haystack_len, const void *needle, size_t needle_len)

cdef enum:
    NOT_OURS = -2                   # decide(): the event is ignored
    NO_SES = -1                     # read_ses(): the record does not say whose session it is
    QUIET_TRIES_MAX = 64            # bound sessions that are looked at for one that did nothing
    TIME_OUT_STEPS_MAX = 16         # flights that are not due that time_out() passes over
    HINT_REACH = 16                 # how far ` ses=` strays from where it was: ids have one to ten digits
    TOO_LONG = -3                   # beside the ScanErrors: the line passes LINE_BYTES_MAX

# What Python has to know of the enums in the .pxd.
STATE_BOUND = SESSION_BOUND
STATE_KERNEL = SESSION_KERNEL
FLAG_SESSION = TYPE_SESSION
FLAG_SINGLE = TYPE_SINGLE
FLAG_ENDS = TYPE_ENDS

# ---------------------------------------------------------------------------------------------- leaves


cdef inline Span basename(Span path) noexcept nogil:
    cdef Py_ssize_t i = path.len
    while i > 0 and path.ptr[i - 1] != c'/':
        i -= 1
    return span_of(path.ptr + i, path.len - i)


cdef inline bint is_sshd(Span program) noexcept nogil:
    # sshd; sshd-session and sshd-auth since 9.8. A replaced binary reads `/usr/sbin/sshd (deleted)`,
    # which the kernel writes in hex because of the blank: unhex(" (deleted)") ends it.
    cdef Span name = basename(unquoted(program))
    if span_is(name, b"sshd", 4) or span_is(name, b"sshd-session", 12) or span_is(name, b"sshd-auth", 9):
        return True
    return is_sshd_hex(unquoted(program))


cdef bint is_sshd_hex(Span program) noexcept nogil:
    # "/sshd (deleted)", "/sshd-session (deleted)", "/sshd-auth (deleted)" as the kernel writes them in hex.
    return (ends_text(program, b"2F73736864202864656C6574656429", 30)
            or ends_text(program, b"2F737368642D73657373696F6E202864656C6574656429", 46)
            or ends_text(program, b"2F737368642D61757468202864656C6574656429", 40))


cdef inline uint32_t ses_value(Span s) noexcept nogil:
    # A session number; `unset`, `-1`, 4294967295 and anything that is no number are SES_UNSET.
    cdef int64_t value = span_int(s)
    return <uint32_t>value if 0 <= value < <int64_t>SES_UNSET else SES_UNSET


cdef inline int64_t read_ses(Span body, bint kernel_record, Py_ssize_t *hint) noexcept nogil:
    # The `ses=` that the kernel wrote, SES_UNSET among them; NO_SES where the record has none.
    # In a message of a program everything from `msg=` on is that program's own text and is not looked at;
    # in a kernel record no user text can hold a blank, so wherever ` ses=` stands it is the kernel's: first looked
    # for about where the last record had it (`hint`, 30 ns less than a search from the start).
    cdef const uint8_t *p = NULL
    cdef const uint8_t *end = body.ptr + body.len
    cdef const uint8_t *limit
    cdef Py_ssize_t i
    if kernel_record:
        for i in range(max(hint[0] - HINT_REACH, 0), min(hint[0] + HINT_REACH, body.len - 8)):
            if body.ptr[i] == c' ' and memcmp(body.ptr + i, b" ses=", 5) == 0:
                p = body.ptr + i
                break
    else:
        limit = <const uint8_t *>memmem(body.ptr, <size_t>body.len, b"msg=", 4)
        if limit is not NULL:
            end = limit
    if p is NULL:
        p = <const uint8_t *>memmem(body.ptr, <size_t>(end - body.ptr), b" ses=", 5)
    if p is not NULL:
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


cdef struct LoginRecord:            # what a LOGIN record says
    uint32_t ses
    uint32_t old_ses
    int32_t pid
    bint succeeded


cdef void read_login(Span body, LoginRecord *login) noexcept nogil:
    # `pid=… old-auid=… auid=… old-ses=… ses=N res=1`; up to kernel 3.13 `login pid=… old ses=… new ses=N`:
    # there the key `ses` stands twice, the last one is the new session.
    cdef const uint8_t *p = body.ptr
    cdef Span key
    cdef Span value
    login.ses = login.old_ses = SES_UNSET
    login.pid = 0
    login.succeeded = True
    while next_field(&p, body.ptr + body.len, &key, &value):
        if span_is(key, b"ses", 3):
            login.ses = ses_value(value)
            if key.ptr - 4 >= body.ptr and memcmp(key.ptr - 4, b"old ", 4) == 0:
                login.old_ses = login.ses
        elif span_is(key, b"old-ses", 7):
            login.old_ses = ses_value(value)
        elif span_is(key, b"pid", 3) and login.pid == 0:
            login.pid = pid_value(value)
        elif span_is(key, b"res", 3):
            login.succeeded = not span_is(value, b"0", 1)


cdef inline bint is_channel(Record *record) noexcept nogil:
    # USER_END op=login: RHEL's sshd sends one for each channel; the session goes on.
    return memmem(record_line(record), record.len, b"op=login ", 9) is not NULL


cdef inline int32_t pid_value(Span s) noexcept nogil:
    # A pid, 0 when it is none.
    cdef int64_t value = span_int(s)
    return <int32_t>value if 0 < value < 0x7FFFFFFF else 0


cdef struct Actor:                  # which process a record is about
    int32_t pid
    Span exe                        # as written, len 0 without one
    Span comm


cdef void read_actor(Span body, Actor *actor) noexcept nogil:
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


cdef inline Py_ssize_t trimmed(const uint8_t *line, Py_ssize_t length) noexcept nogil:
    # The length of a line without what a writer may leave at its end: CR, NUL, blanks.
    while length and (line[length - 1] == c'\r' or line[length - 1] == 0 or line[length - 1] == c' '):
        length -= 1
    return length


cdef inline uint32_t index_of(uint32_t node, uint32_t ses) noexcept nogil:
    return (ses * 2654435761u) ^ (node * 0x9E3779B1u)


cdef inline uint32_t flight_hash(uint64_t ts_ms, uint32_t seq, uint32_t node) noexcept nogil:
    return (seq * 2654435761u ^ <uint32_t>ts_ms * 40503u ^ node) & (INFLIGHT_INDEX - 1)


cdef inline uint32_t name_hash(Span name) noexcept nogil:
    # Of a type's name, from its first and last eight bytes, or all of a shorter one: 3 ns against 11 of FNV-1a.
    cdef uint64_t mix
    if name.len >= 8:
        mix = load8(name.ptr) ^ load8(name.ptr + name.len - 8) * 0x9E3779B97F4A7C15ULL
    else:
        mix = 0
        memcpy(&mix, name.ptr, <size_t>name.len)
    mix = (mix ^ <uint64_t>name.len) * 0x9E3779B97F4A7C15ULL
    return <uint32_t>(mix >> 40)


# --------------------------------------------------------------------------------------------- sessions

cdef class Sessions:

    def __cinit__(self, uint32_t capacity=131072):
        cdef int i
        if capacity < 2 or capacity > 1 << 24:
            raise ValueError(f"session table of {capacity} slots: 2 to {1 << 24} are possible")
        self.capacity = capacity
        self.index_mask = SESSION_INDEX_START - 1
        # calloc gives untouched pages: a table that is not used costs no memory.
        self.slots = <Session *>PyMem_Calloc(capacity, sizeof(Session))
        self.slot_by_ses = <uint32_t *>PyMem_Calloc(SESSION_INDEX_START, sizeof(uint32_t))
        self.chain_by_pid = <uint32_t *>PyMem_Calloc(SESSION_INDEX_START, sizeof(uint32_t))
        if not self.slots or not self.slot_by_ses or not self.chain_by_pid:
            raise MemoryError()
        for i in range(LISTS):
            self.heads[i] = self.tails[i] = -1

    def __dealloc__(self):
        cdef uint32_t i
        cdef Event *event
        cdef Event *following
        if self.slots:
            for i in range(self.used):
                event = self.slots[i].held_head
                while event is not NULL:
                    following = event.next
                    free(event)
                    event = following
        PyMem_Free(self.slots)
        PyMem_Free(self.slot_by_ses)
        PyMem_Free(self.chain_by_pid)

    cdef int32_t find(self, uint32_t node, uint32_t ses) noexcept nogil:
        cdef uint32_t i = index_of(node, ses) & self.index_mask
        cdef uint32_t slot
        while True:
            slot = self.slot_by_ses[i]
            if slot == 0:
                return -1
            if self.slots[slot - 1].ses == ses and self.slots[slot - 1].node == node:
                return <int32_t>(slot - 1)
            i = (i + 1) & self.index_mask

    cdef void index_insert(self, int32_t slot) noexcept nogil:
        cdef uint32_t i = index_of(self.slots[slot].node, self.slots[slot].ses) & self.index_mask
        while self.slot_by_ses[i]:
            i = (i + 1) & self.index_mask
        self.slot_by_ses[i] = <uint32_t>slot + 1
        self.slots[slot].indexed = True

    cdef void chain_insert(self, int32_t slot) noexcept nogil:
        cdef uint32_t chain = <uint32_t>self.slots[slot].pid * 2654435761u & self.index_mask
        self.slots[slot].pid_next = <int32_t>self.chain_by_pid[chain] - 1
        self.chain_by_pid[chain] = <uint32_t>slot + 1

    cdef int grow(self) except -1:
        # Double the indexes. They start small: with a thousand sessions a look-up stays in the cache (1 MB of index
        # for the greatest table costs 15 ns a look-up more).
        cdef size_t size = (<size_t>self.index_mask + 1) * 2
        cdef uint32_t *by_ses = <uint32_t *>PyMem_Calloc(size, sizeof(uint32_t))
        cdef uint32_t *by_pid = <uint32_t *>PyMem_Calloc(size, sizeof(uint32_t))
        cdef uint32_t i
        if not by_ses or not by_pid:
            PyMem_Free(by_ses)
            PyMem_Free(by_pid)
            raise MemoryError()
        PyMem_Free(self.slot_by_ses)
        PyMem_Free(self.chain_by_pid)
        self.slot_by_ses = by_ses
        self.chain_by_pid = by_pid
        self.index_mask = <uint32_t>(size - 1)
        for i in range(self.used):
            if self.slots[i].state == SESSION_FREE:
                continue
            self.chain_insert(<int32_t>i)
            if self.slots[i].indexed:
                self.index_insert(<int32_t>i)
        return 0

    cdef void index_remove(self, int32_t slot) noexcept nogil:
        # Shift later entries of the run back into the hole, so that probing needs no tombstones.
        cdef uint32_t mask = self.index_mask
        cdef uint32_t i = index_of(self.slots[slot].node, self.slots[slot].ses) & mask
        cdef uint32_t hole, home
        cdef Session *other
        if not self.slots[slot].indexed:
            return                          # its number was taken over by a newer session
        self.slots[slot].indexed = False
        while self.slot_by_ses[i] != <uint32_t>slot + 1:
            i = (i + 1) & mask
        hole = i
        while True:
            self.slot_by_ses[hole] = 0
            while True:
                i = (i + 1) & mask
                if self.slot_by_ses[i] == 0:
                    return
                other = &self.slots[self.slot_by_ses[i] - 1]
                home = index_of(other.node, other.ses) & mask
                if ((i - home) & mask) >= ((i - hole) & mask):
                    break
            self.slot_by_ses[hole] = self.slot_by_ses[i]
            hole = i

    cdef int32_t open(self, uint32_t node, uint32_t ses, int32_t pid, uint64_t ts_ms) except -2:
        # A slot for a session that a LOGIN record opened at ts_ms; the same slot when it is told twice.
        cdef int32_t slot = self.find(node, ses)
        cdef Session *s
        if slot >= 0:
            s = &self.slots[slot]
            if s.pid == pid and s.open_ms == ts_ms:
                return slot
            # The number starts again (a reboot): the old session gives it up, and waits on if it held events.
            self.index_remove(slot)
            if s.list != LIST_WAITING:
                self.close(slot)
        slot = self.slot_new()
        if self.live * 2 > self.index_mask:
            self.grow()
        s = &self.slots[slot]
        self.generations += 1
        memset(s, 0, sizeof(Session))
        s.generation = self.generations
        s.node = node
        s.ses = ses
        s.pid = pid
        s.open_ms = s.seen_ms = ts_ms
        s.state = SESSION_CANDIDATE
        s.parent = -1
        self.index_insert(slot)
        self.chain_insert(slot)
        self.enlist(slot, LIST_WAITING)
        self.live += 1
        return slot

    cdef bint must_give_up(self) noexcept nogil:
        # Whether the next session would push out one that waits: whoever wants its events has to take them before.
        return self.live >= self.capacity and self.heads[LIST_ENDED] < 0 and self.heads[LIST_KERNEL] < 0 and (
            self.heads[LIST_BOUND] < 0 or self.heads[LIST_WAITING] >= 0)

    cdef int32_t slot_new(self) except -2:
        # A free slot; in a full table the first in the order of SessionList gives up its own.
        cdef int32_t slot
        if self.free_head:
            slot = <int32_t>self.free_head - 1
            self.free_head = <uint32_t>(self.slots[slot].pid_next + 1)
            return slot
        if self.used < self.capacity:
            self.used += 1
            return <int32_t>self.used - 1
        slot = self.heads[LIST_ENDED]
        if slot < 0:
            slot = self.heads[LIST_KERNEL]
        if slot < 0:
            slot = self.quiet_one()
        if slot < 0:
            slot = self.heads[LIST_WAITING]
        self.evicted += 1
        self.close(slot)
        return self.slot_new()

    cdef int32_t quiet_one(self) noexcept nogil:
        # The bound session that was bound the longest ago and did nothing since it was last looked at here, -1: none.
        cdef int32_t slot = self.heads[LIST_BOUND]
        cdef int tries
        for tries in range(QUIET_TRIES_MAX):
            if slot < 0 or not self.slots[slot].acted:
                return slot
            self.slots[slot].acted = False
            self.unlist(slot)
            self.enlist(slot, LIST_BOUND)
            slot = self.heads[LIST_BOUND]
        return slot

    cdef void close(self, int32_t slot) noexcept:
        # Forget a session and what it holds. Nothing for a slot that is free already.
        cdef Session *s = &self.slots[slot]
        cdef uint32_t chain = <uint32_t>s.pid * 2654435761u & self.index_mask
        cdef int32_t at = <int32_t>self.chain_by_pid[chain] - 1
        cdef Event *event = s.held_head
        cdef Event *following
        if s.state == SESSION_FREE:
            return
        while event is not NULL:
            following = event.next
            self.held_events -= 1
            self.held_bytes -= event.size + sizeof(Event)
            free(event)
            event = following
        self.index_remove(slot)
        if at == slot:
            self.chain_by_pid[chain] = <uint32_t>(s.pid_next + 1)
        else:
            while self.slots[at].pid_next != slot:
                at = self.slots[at].pid_next
            self.slots[at].pid_next = s.pid_next
        self.unlist(slot)
        memset(s, 0, sizeof(Session))
        s.pid_next = <int32_t>self.free_head - 1
        self.free_head = <uint32_t>slot + 1
        self.live -= 1

    cdef void enlist(self, int32_t slot, uint8_t list) noexcept nogil:
        cdef Session *s = &self.slots[slot]
        s.list = list
        s.next = -1
        s.prev = self.tails[list]
        if s.prev >= 0:
            self.slots[s.prev].next = slot
        else:
            self.heads[list] = slot
        self.tails[list] = slot

    cdef void unlist(self, int32_t slot) noexcept nogil:
        cdef Session *s = &self.slots[slot]
        if s.prev >= 0:
            self.slots[s.prev].next = s.next
        else:
            self.heads[s.list] = s.next
        if s.next >= 0:
            self.slots[s.next].prev = s.prev
        else:
            self.tails[s.list] = s.prev

    cdef void settle_list(self, int32_t slot) noexcept nogil:
        # Move a session to the list of its state; one that waits stays where it is, ended or not.
        cdef Session *s = &self.slots[slot]
        cdef uint8_t list = <uint8_t>(LIST_BOUND if s.state == SESSION_BOUND else LIST_KERNEL)
        if s.state < SESSION_BOUND:
            return
        if s.ended:
            list = LIST_ENDED
        if s.list != list:
            self.unlist(slot)
            self.enlist(slot, list)

    cdef void hold(self, int32_t slot, Event *event) noexcept nogil:
        cdef Session *s = &self.slots[slot]
        event.next = NULL
        if s.held_tail is NULL:
            s.held_head = event
        else:
            s.held_tail.next = event
        s.held_tail = event
        self.held_events += 1
        self.held_bytes += event.size + sizeof(Event)

    cdef uint64_t oldest_held_offset(self) noexcept nogil:
        # Held chains start with the event that opened the session, and the waiting list is in opening order.
        cdef int32_t slot = self.heads[LIST_WAITING]
        cdef uint64_t oldest = <uint64_t>-1
        while slot >= 0:
            if self.slots[slot].held_head is not NULL:
                oldest = min(oldest, self.slots[slot].held_head.offset)
                break
            slot = self.slots[slot].next
        return oldest

    def __len__(self):
        return self.live

    def waiting(self, uint64_t opened_before_ms=<uint64_t>-1):
        cdef list found = []
        cdef int32_t slot = self.heads[LIST_WAITING]
        while slot >= 0:
            if self.slots[slot].open_ms < opened_before_ms:
                found.append(slot)
            slot = self.slots[slot].next
        return found

    def waiting_since(self, uint64_t born_before_ms, uint64_t now_ms):
        cdef list found = []
        cdef int32_t slot = self.heads[LIST_WAITING]
        while slot >= 0:
            if self.slots[slot].born_ms == 0:
                self.slots[slot].born_ms = now_ms
            elif self.slots[slot].born_ms < born_before_ms:
                found.append(slot)
            slot = self.slots[slot].next
        return found

    @property
    def oldest_waiting(self):
        return None if self.heads[LIST_WAITING] < 0 else self.heads[LIST_WAITING]

    def of_pid(self, int32_t pid):
        cdef list found = []
        cdef uint32_t chain = <uint32_t>pid * 2654435761u & self.index_mask
        cdef int32_t slot = <int32_t>self.chain_by_pid[chain] - 1
        while slot >= 0:
            if self.slots[slot].pid == pid:
                found.append((self.slots[slot].generation, slot))
            slot = self.slots[slot].pid_next
        found.sort()
        return [slot for _, slot in found]

    cdef Session *checked(self, int32_t slot) except NULL:
        if slot < 0 or <uint32_t>slot >= self.used or self.slots[slot].state == SESSION_FREE:
            raise IndexError(f"no session in slot {slot}")
        return &self.slots[slot]

    def info(self, int32_t slot):
        cdef Session *s = self.checked(slot)
        return {"ses": s.ses, "node": s.node, "pid": s.pid, "open_ms": s.open_ms, "seen_ms": s.seen_ms,
                "born_ms": s.born_ms,
                "state": s.state, "ended": bool(s.ended), "proven": bool(s.proven), "waiting": s.list == LIST_WAITING,
                "generation": s.generation, "actions": s.actions, "failures": s.failures}

    @property
    def held(self):
        return self.held_events, self.held_bytes

    @property
    def held_full(self):
        return self.held_events >= HELD_EVENTS_MAX or self.held_bytes >= HELD_BYTES_MAX

    @property
    def overheld(self):
        return self.held_events >= 2 * HELD_EVENTS_MAX or self.held_bytes >= HELD_BYTES_MAX + HELD_BYTES_SLACK

    def held_lines(self, int32_t slot, int record_type):
        cdef Event *event = self.checked(slot).held_head
        cdef Record *record
        cdef list lines = []
        while event is not NULL:
            record = first_record(event)
            while record_before_end(event, record):
                if record.type == record_type:
                    lines.append(PyBytes_FromStringAndSize(<const char *>record_line(record), record.len))
                record = next_record(record)
            event = event.next
        return lines

    def dump(self):
        cdef uint32_t i
        cdef Session *s
        cdef list rows = []
        for i in range(self.used):
            s = &self.slots[i]
            if s.state != SESSION_FREE:
                rows.append((s.generation, i, s.node, s.ses, s.pid, s.open_ms, s.seen_ms, s.state, s.proven,
                             s.ended, s.actions, s.failures))
        rows.sort()
        return [row[1:] for row in rows]

    def load(self, rows):
        cdef int32_t slot
        cdef Session *s
        cdef dict moved = {}
        for row in rows:
            slot = self.open(row.node, row.ses, row.pid, row.open_ms)
            s = &self.slots[slot]
            s.seen_ms = row.seen_ms
            s.state = row.state
            s.proven = row.proven
            s.actions = row.actions
            s.failures = row.failures
            # One that waits starts anew: its LOGIN and what it held are read again.
            s.announced = <uint8_t>(s.state >= SESSION_BOUND)
            s.ended = <uint8_t>(row.ended and s.announced)
            self.settle_list(slot)
            moved[row.slot] = slot
        return moved


cdef class EventSink:

    cdef int take_event(self, Event *event, Session *session) except -1:
        raise NotImplementedError("take_event")


# ------------------------------------------------------------------------------------------ audit stream

cdef class AuditStream:

    def __cinit__(self, Sessions sessions, EventSink sink, types, *, bint keep_all=False, reject=None,
                  opened=None, inherited=None, crowded=None):
        cdef int i
        self.sessions = sessions
        self.sink = sink
        self.keep_all = keep_all
        self.reject = reject
        self.opened = opened
        self.inherited = inherited
        self.crowded = crowded
        self.carry_buffer = bytearray(LINE_BYTES_MAX + 1)
        self.done = <Done *>PyMem_Calloc(DONE_RING, sizeof(Done))
        if not self.done:
            raise MemoryError()
        for i in range(DONE_RING):
            self.done[i].seq = <uint32_t>i + 1      # no sequence that has this place: nothing is done yet
        for name, number, flags in types:
            self.type_add(name.encode(), number, flags)
        for i in range(INFLIGHT_EVENTS_MAX):
            self.flights[i].newer = i + 1
        self.flights[INFLIGHT_EVENTS_MAX - 1].newer = -1
        self.oldest = self.newest = self.last_flight = self.stamp_flight = -1
        self.due_ms = NEVER_MS
        self.free_flight = 0

    def __dealloc__(self):
        cdef Event *event
        cdef int i
        for i in range(INFLIGHT_EVENTS_MAX):
            free(self.flights[i].event)
        while self.free_events is not NULL:
            event = self.free_events
            self.free_events = event.next
            free(event)
        PyMem_Free(self.done)

    # ------------------------------------------------------------------------------ record types

    cdef int type_add(self, bytes name, int number, int flags) except -1:
        # A row of the type table; names of up to TYPE_ROW_NAME_MAX bytes, as auditd prints them.
        cdef Span span = span_of(<const uint8_t *><const char *>name, len(name))
        cdef uint32_t i = name_hash(span) & (TYPE_INDEX - 1)
        if len(name) > TYPE_ROW_NAME_MAX or not 0 < number < TYPES_MAX:
            raise ValueError(f"record type {name!r} = {number}")
        while self.type_rows[i].len:
            i = (i + 1) & (TYPE_INDEX - 1)
        memcpy(self.type_rows[i].name, span.ptr, <size_t>span.len)
        self.type_rows[i].len = <uint8_t>span.len
        self.type_rows[i].number = <uint16_t>number
        self.type_flags[number] = <uint8_t>(flags | TYPE_KNOWN)
        return 0

    cdef uint16_t type_number(self, Span name) noexcept nogil:
        # Number of a record type by its name, by `UNKNOWN[n]` or by `n`; 0 when nothing tells it.
        cdef uint32_t i = name_hash(name) & (TYPE_INDEX - 1)
        cdef const uint8_t *p
        cdef int64_t number
        while self.type_rows[i].len:
            if self.type_rows[i].len == name.len and memcmp(self.type_rows[i].name, name.ptr,
                                                            <size_t>name.len) == 0:
                return self.type_rows[i].number
            i = (i + 1) & (TYPE_INDEX - 1)
        self.types_unknown += 1
        p = name.ptr
        if span_starts(name, b"UNKNOWN[", 8) and name.ptr[name.len - 1] == c']':
            p += 8
        number = digits(&p, name.ptr + name.len, 5)
        return <uint16_t>number if 0 < number < 0xFFFF else 0

    cdef inline uint8_t flags_of(self, uint16_t type) noexcept nogil:
        # A type without a row may say whose session it is, and is a whole event if its number says so, as auparse
        # has it; one without a number waits for the end of its event, or for the time-out.
        if 0 < type < TYPES_MAX and self.type_flags[type]:
            return self.type_flags[type]
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
        if self.stamp_len and length > 12 + self.stamp_len and line[5] != c'L':
            # Most lines carry the stamp of the line before: the next record of an event that is ignored, or kept.
            blank = <const uint8_t *>memchr(line + 5, c' ', <size_t>min(length - 5, 26))
            if blank is not NULL and line + length > blank + self.stamp_len and memcmp(
                    blank + 1, self.stamp, self.stamp_len) == 0 and memcmp(line, b"type=", 5) == 0:
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
        elif code == SCAN_BAD_STAMP:
            self.reject_bad_stamp += 1
        else:
            self.reject_not_a_record += 1
        if self.reject is not None:
            reason = {TOO_LONG: "too long", SCAN_BAD_STAMP: "bad stamp"}.get(code, "not a record")
            try:
                self.reject(PyBytes_FromStringAndSize(<const char *>line, min(length, LINE_BYTES_MAX)), reason)
            except Exception:
                self.rejects_failed += 1        # whoever wants copies: the lines behind this one come first
        return 0

    # ------------------------------------------------------------------------------ reassembly

    cdef int take_record(self, Span line, Header *header) except -1:
        cdef uint16_t type = self.type_number(header.name)
        cdef uint8_t flags = self.flags_of(type)
        cdef int32_t flight
        cdef Done *done
        self.records += 1
        self.clock_ms = self.move_clock(header)
        if self.clock_ms > self.due_ms:
            self.time_out()
        flight = self.flight_of(header)
        if flight < 0:
            done = &self.done[header.seq & (DONE_RING - 1)]
            if done.ts_ms == header.ts_ms and done.seq == header.seq and done.node == header.node:
                if type != TYPE_LOGIN:
                    if done.kept and type != TYPE_EOE:
                        self.events_late += 1
                    return 0
            if type == TYPE_EOE:
                return 0                    # of an event that is over
            if self.free_flight < 0:
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

    cdef int32_t decide(self, Span line, Header *header, uint16_t type, uint8_t flags, int32_t flight) except -3:
        # A record that may say whose session its event belongs to. Ours: the flight, opened and kept.
        # Not ours: NOT_OURS, and the event is ignored from here on. It does not say: the flight as it was.
        cdef Span body = span_of(line.ptr + header.body, line.len - header.body)
        cdef int64_t ses
        cdef int32_t slot = -1
        if type == TYPE_LOGIN:
            slot = self.open_by_login(header, body)
        else:
            ses = read_ses(body, TYPE_SYSCALL <= type < TYPE_SINGLE_FROM and flags & TYPE_KNOWN, &self.ses_hint)
            if ses == NO_SES:
                return flight
            if ses != SES_UNSET:
                slot = self.sessions.find(header.node, <uint32_t>ses)
                if slot < 0 and type == TYPE_USER_START:
                    slot = self.open_by_start(body, header, <uint32_t>ses)
                if slot >= 0 and self.sessions.slots[slot].login_flight:
                    self.complete_login(slot)
                    if self.sessions.slots[slot].state == SESSION_FREE:
                        slot = -1
        if slot < 0:
            self.ignore(line, header, flags, flight)
            return NOT_OURS
        if flight < 0:
            flight = self.flight_open(header)
        self.flights[flight].keep = True
        self.flights[flight].event.session = slot
        self.flights[flight].event.generation = self.sessions.slots[slot].generation
        if type == TYPE_LOGIN and self.sessions.slots[slot].open_ms == header.ts_ms:
            self.flights[flight].event.flags |= EVENT_LOGIN
            self.sessions.slots[slot].login_flight = flight + 1
        return flight

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
        if self.free_flight < 0:
            self.force_oldest()
        event = self.event_new()
        flight = self.free_flight
        self.free_flight = self.flights[flight].newer
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
        f.newer = self.free_flight
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
            clock.ms = clock.jump_ms = 0
        return clock

    cdef uint64_t move_clock(self, Header *header) noexcept nogil:
        # Stamps are those of syscall entry, so they go back and forth a little: the clock is the latest. One that is
        # far off, either way, moves it only when the next agrees: so far, or (a quiet host) as far ahead or more.
        cdef NodeClock *clock = self.clock_of(header.node)
        cdef uint64_t ts_ms = header.ts_ms
        if clock.ms == 0 or (ts_ms <= clock.ms + CLOCK_JUMP_MS and ts_ms + CLOCK_JUMP_MS >= clock.ms):
            clock.ms = max(clock.ms, ts_ms)
            clock.jump_ms = 0
        elif clock.jump_ms == 0:
            clock.jump_ms = ts_ms
        else:
            if clock.jump_ms > clock.ms and ts_ms > clock.ms:
                clock.ms = min(clock.jump_ms, ts_ms)
            elif ts_ms <= clock.jump_ms + CLOCK_JUMP_MS and ts_ms + CLOCK_JUMP_MS >= clock.jump_ms:
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
            if session is not NULL and not session.announced:
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
        return self.hold(event)

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
        try:
            self.sink.take_event(event, session)
            self.events_taken += 1
        finally:
            self.event_free(event)
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

    def bind(self, int32_t slot, *, bint kernel=False):
        cdef Session *session = self.sessions.checked(slot)
        session.state = SESSION_KERNEL if kernel else SESSION_BOUND
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
        self.now_ms = now_ms
        while idle and self.oldest >= 0 and self.flights[self.oldest].born_ms + EVENT_TIMEOUT_MS < now_ms:
            if self.flights[self.oldest].born_ms == 0:
                # Born before the first tick: its age counts from now.
                self.flights[self.oldest].born_ms = now_ms
                continue
            self.events_timed_out += 1
            self.complete(self.oldest)

    def flush(self):
        cdef uint32_t length = self.carried
        self.carried = 0
        self.skipping = False
        if length:
            self.take_line(<const uint8_t *><char *>self.carry_buffer, length)
        while self.oldest >= 0:
            self.complete(self.oldest)

    @property
    def resolved(self):
        cdef uint64_t oldest = self.line_offset if self.carried or self.skipping else self.offset
        if self.oldest >= 0:
            oldest = min(oldest, self.flights[self.oldest].event.offset)
        return min(oldest, self.sessions.oldest_held_offset())

    def rebase(self, uint64_t offset):
        if self.lines or self.carried:
            raise ValueError("a stream that was fed has its offsets")
        self.offset = self.line_offset = offset

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

