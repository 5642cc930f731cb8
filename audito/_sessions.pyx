"""Audit sessions: a flat table with its indexes, lists and the events that wait. See _sessions.pxd for the structs."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy, memset

from audito._put cimport NUMBER_BYTES_MAX, put, put_number

cdef extern from "<sys/mman.h>" nogil:
    enum: MADV_HUGEPAGE
    int madvise(void *address, size_t length, int advice)

cdef enum:
    QUIET_TRIES_MAX = 64            # bound sessions that are looked at for one that did nothing
    LARGE_PAGE = 2 << 20            # of x86 and of arm64 with pages of 4 KiB; elsewhere it is a multiple of a page
    LARGE_PAGES_FROM = 16384        # slots of the indexes: 1 MiB of sessions in use

# What Python has to know of the enums in the .pxd.
STATE_BOUND = SESSION_BOUND
STATE_KERNEL = SESSION_KERNEL
IDENTITY_TEXT_MAX = IDENTITY_BYTES_MAX - 1


cdef inline uint32_t index_of(uint32_t node, uint32_t ses) noexcept nogil:
    return (ses * 2654435761u) ^ (node * 0x9E3779B1u)


# ------------------------------------------------------------------------------------------ rows of a checkpoint

cdef enum:
    ROW_NUMBERS = 15
    ROW_BYTES_MAX = ROW_NUMBERS * (NUMBER_BYTES_MAX + 1) + 2


cdef struct Place:
    uint32_t generation             # in the order in which the sessions were opened
    uint32_t slot


cdef int compare_places(const void *a, const void *b) noexcept nogil:
    cdef uint32_t first = (<const Place *>a).generation
    cdef uint32_t second = (<const Place *>b).generation
    return (first > second) - (first < second)


cdef inline uint8_t *put_row(uint8_t *p, uint32_t slot, const Session *s) noexcept nogil:
    # One session, as core.SessionRow has its fields, and a comma.
    cdef uint64_t *numbers = [
        slot, s.node, s.ses, <uint64_t>max(s.pid, 0), s.open_ms, s.seen_ms, s.state, s.proven, s.ended, s.actions, s.failures,
        s.commands, s.end_ms, s.end_seq, s.correlation]
    cdef int i
    p[0] = c'['
    p += 1
    for i in range(ROW_NUMBERS):
        p = put_number(p, numbers[i])
        p[0] = c','
        p += 1
    (p - 1)[0] = c']'
    p[0] = c','
    return p + 1


cdef inline size_t identity_room(const Session *s) noexcept nogil:
    if s.identity is NULL:
        return 0
    return NUMBER_BYTES_MAX + s.identity.source_len + s.identity.subjects_len + sizeof('"":[,],')


cdef inline uint8_t *put_identity(uint8_t *p, uint32_t slot, Session *s) noexcept nogil:
    # `"slot":[source,subjects],` of a session that has an identity to be written with.
    if s.state < SESSION_BOUND or s.identity is NULL:
        return p
    p = put_number(put(p, b'"', 1), slot)
    p = put(put(p, b'":[', 3), identity_source(s.identity), s.identity.source_len)
    p = put(put(p, b',', 1), identity_subjects(s.identity), s.identity.subjects_len)
    return put(p, b'],', 2)


cdef bytes enclosed(bytes before, const uint8_t *text, const uint8_t *end, bytes behind):
    # The list or object of these members, each with a comma behind it.
    return before + text[:end - text - (end > text)] + behind


@cython.final
@cython.freelist(8)
cdef class SessionInfo:
    pass


cdef class Sessions:

    def __cinit__(self, uint32_t capacity=131072):
        cdef int i
        if capacity < 2 or capacity > 1 << 24:
            raise ValueError(f"session table of {capacity} slots: 2 to {1 << 24} are possible")
        self.capacity = capacity
        self.index_mask = SESSION_INDEX_START - 1
        # calloc gives untouched pages: a table that is not used costs no memory.
        self.memory = PyMem_Calloc(<size_t>capacity + 1, sizeof(Session))
        self.by_ses = <IndexEntry *>PyMem_Calloc(SESSION_INDEX_START, sizeof(IndexEntry))
        self.chain_by_pid = <uint32_t *>PyMem_Calloc(SESSION_INDEX_START, sizeof(uint32_t))
        if not self.memory or not self.by_ses or not self.chain_by_pid:
            raise MemoryError()
        self.slots = <Session *>((<uintptr_t>self.memory + CACHE_LINE - 1) & ~<uintptr_t>(CACHE_LINE - 1))
        for i in range(LISTS):
            self.heads[i] = self.tails[i] = -1

    def __dealloc__(self):
        cdef uint32_t i
        cdef Event *event
        cdef Event *following
        if self.memory:
            for i in range(self.used):
                PyMem_Free(self.slots[i].identity)
                event = self.slots[i].held_head
                while event is not NULL:
                    following = event.next
                    free(event)
                    event = following
        PyMem_Free(self.memory)
        PyMem_Free(self.by_ses)
        PyMem_Free(self.chain_by_pid)

    cdef int32_t find(self, uint32_t node, uint32_t ses) noexcept nogil:
        cdef uint32_t i = index_of(node, ses) & self.index_mask
        cdef IndexEntry *entry
        while True:
            entry = &self.by_ses[i]
            if entry.slot == 0:
                return -1
            if entry.ses == ses and self.slots[entry.slot - 1].node == node:
                return <int32_t>(entry.slot - 1)
            i = (i + 1) & self.index_mask

    cdef void index_insert(self, int32_t slot) noexcept nogil:
        cdef uint32_t i = index_of(self.slots[slot].node, self.slots[slot].ses) & self.index_mask
        while self.by_ses[i].slot:
            i = (i + 1) & self.index_mask
        self.by_ses[i].ses = self.slots[slot].ses
        self.by_ses[i].slot = <uint32_t>slot + 1
        self.slots[slot].indexed = True

    cdef void chain_insert(self, int32_t slot) noexcept nogil:
        cdef uint32_t chain = <uint32_t>self.slots[slot].pid * 2654435761u & self.index_mask
        self.slots[slot].pid_next = <int32_t>self.chain_by_pid[chain] - 1
        self.chain_by_pid[chain] = <uint32_t>slot + 1

    cdef int grow(self) except -1:
        # Double the indexes. They start small: with a thousand sessions a look-up stays in the cache (1 MB of index
        # for the greatest table costs 15 ns a look-up more).
        cdef size_t size = (<size_t>self.index_mask + 1) * 2
        cdef IndexEntry *by_ses = <IndexEntry *>PyMem_Calloc(size, sizeof(IndexEntry))
        cdef uint32_t *by_pid = <uint32_t *>PyMem_Calloc(size, sizeof(uint32_t))
        cdef uint32_t i
        if not by_ses or not by_pid:
            PyMem_Free(by_ses)
            PyMem_Free(by_pid)
            raise MemoryError()
        PyMem_Free(self.by_ses)
        PyMem_Free(self.chain_by_pid)
        self.by_ses = by_ses
        self.chain_by_pid = by_pid
        self.index_mask = <uint32_t>(size - 1)
        for i in range(self.used):
            if self.slots[i].state == SESSION_FREE:
                continue
            self.chain_insert(<int32_t>i)
            if self.slots[i].indexed:
                self.index_insert(<int32_t>i)
        if size >= LARGE_PAGES_FROM:
            self.use_large_pages()
        return 0

    cdef void use_large_pages(self) noexcept nogil:
        # For the slots. In a virtual machine to find the page of one takes as long as to fetch it: an event of 100,000
        # sessions cost 1.34 times one of ten, 1.30 since. Where the kernel has no large pages, nothing changes.
        cdef uintptr_t start = (<uintptr_t>self.slots + LARGE_PAGE - 1) & ~<uintptr_t>(LARGE_PAGE - 1)
        cdef uintptr_t end = <uintptr_t>(self.slots + self.capacity)
        if start < end:
            madvise(<void *>start, end - start, MADV_HUGEPAGE)

    cdef void index_remove(self, int32_t slot) noexcept nogil:
        # Shift later entries of the run back into the hole, so that probing needs no tombstones.
        cdef uint32_t mask = self.index_mask
        cdef uint32_t i = index_of(self.slots[slot].node, self.slots[slot].ses) & mask
        cdef uint32_t hole, home
        cdef Session *other
        if not self.slots[slot].indexed:
            return                          # its number was taken over by a newer session
        self.slots[slot].indexed = False
        while self.by_ses[i].slot != <uint32_t>slot + 1:
            i = (i + 1) & mask
        hole = i
        while True:
            self.by_ses[hole].slot = 0
            while True:
                i = (i + 1) & mask
                if self.by_ses[i].slot == 0:
                    return
                other = &self.slots[self.by_ses[i].slot - 1]
                home = index_of(other.node, other.ses) & mask
                if ((i - home) & mask) >= ((i - hole) & mask):
                    break
            self.by_ses[hole] = self.by_ses[i]
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
        self.evicted_live += not self.slots[slot].ended
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
        PyMem_Free(s.identity)
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

    def clear(self):
        cdef uint32_t i
        for i in range(self.used):
            self.close(<int32_t>i)

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
        cdef SessionInfo info = SessionInfo.__new__(SessionInfo)
        info.node = s.node
        info.ses = s.ses
        info.pid = s.pid
        info.open_ms = s.open_ms
        info.seen_ms = s.seen_ms
        info.born_ms = s.born_ms
        info.state = s.state
        info.ended = s.ended
        info.announced = s.announced
        info.actions = s.actions
        info.failures = s.failures
        info.commands = s.commands
        info.correlation = s.correlation
        return info

    def generation(self, int32_t slot):
        if slot < 0 or <uint32_t>slot >= self.used or self.slots[slot].state == SESSION_FREE:
            return 0
        return self.slots[slot].generation

    def identify(self, int32_t slot, const uint8_t[::1] source not None, const uint8_t[::1] subjects not None):
        cdef Session *s = self.checked(slot)
        cdef size_t source_len = <size_t>source.shape[0]
        cdef size_t subjects_len = <size_t>subjects.shape[0]
        cdef Identity *identity
        if not 0 < source_len < IDENTITY_BYTES_MAX or not 0 < subjects_len < IDENTITY_BYTES_MAX:
            raise ValueError(f"an identity of {source_len} and {subjects_len} bytes")
        identity = <Identity *>PyMem_Malloc(sizeof(Identity) + source_len + subjects_len)
        if identity is NULL:
            raise MemoryError()
        identity.source_len = <uint32_t>source_len
        identity.subjects_len = <uint32_t>subjects_len
        memcpy(<uint8_t *>identity_source(identity), &source[0], source_len)
        memcpy(<uint8_t *>identity_subjects(identity), &subjects[0], subjects_len)
        PyMem_Free(s.identity)
        s.identity = identity

    def identity(self, int32_t slot):
        cdef Identity *identity = self.checked(slot).identity
        if identity is NULL:
            return None
        return (PyBytes_FromStringAndSize(<const char *>identity_source(identity), identity.source_len),
                PyBytes_FromStringAndSize(<const char *>identity_subjects(identity), identity.subjects_len))

    @property
    def held(self):
        return self.held_events, self.held_bytes

    @property
    def held_full(self):
        return self.held_events >= HELD_EVENTS_MAX or self.held_bytes >= HELD_BYTES_MAX

    @property
    def overheld(self):
        return self.held_events >= 2 * HELD_EVENTS_MAX or self.held_bytes >= HELD_BYTES_MAX + HELD_BYTES_SLACK

    def held_stamps(self):
        cdef int32_t slot = self.heads[LIST_WAITING]
        cdef Event *event
        cdef list found = []
        while slot >= 0:
            event = self.slots[slot].held_head
            while event is not NULL:
                found.append((event.node, event.ts_ms, event.seq))
                event = event.next
            slot = self.slots[slot].next
        return found

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
        # Into memory that is not touched before it is written: with 100,000 sessions Python objects took a second.
        cdef uint32_t count = 0
        cdef uint32_t i
        cdef size_t size = 2
        cdef Place *order = NULL
        cdef uint8_t *text = NULL
        cdef uint8_t *p
        cdef bytes rows
        try:
            order = <Place *>malloc((<size_t>self.used + 1) * sizeof(Place))
            if order is NULL:
                raise MemoryError()
            for i in range(self.used):
                if self.slots[i].state != SESSION_FREE:
                    order[count].generation = self.slots[i].generation
                    order[count].slot = i
                    count += 1
                    size += identity_room(&self.slots[i])
            qsort(order, count, sizeof(Place), compare_places)
            size = max(size, <size_t>count * ROW_BYTES_MAX + 2)
            text = <uint8_t *>malloc(size)
            if text is NULL:
                raise MemoryError()
            p = text
            for i in range(count):
                p = put_row(p, order[i].slot, &self.slots[order[i].slot])
            rows = enclosed(b"[", text, p, b"]")
            p = text
            for i in range(count):
                p = put_identity(p, order[i].slot, &self.slots[order[i].slot])
            return rows, enclosed(b"{", text, p, b"}")
        finally:
            free(order)
            free(text)

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
            s.commands = row.commands
            s.end_ms = row.end_ms
            s.end_seq = row.end_seq
            s.correlation = row.correlation
            # One that waits starts anew: its LOGIN and what it held are read again.
            s.announced = <uint8_t>(s.state >= SESSION_BOUND)
            s.ended = <uint8_t>(row.ended and s.announced)
            self.settle_list(slot)
            moved[row.slot] = (slot, s.generation)
        # In a table that is too small for all, or of sessions with one number, the last ones stay.
        return {saved: slot for saved, (slot, generation) in moved.items() if self.generation(slot) == generation}
