# Audit sessions and the events that they hold: every limit and struct, each with its invariant. The .pyx has the
# bodies.
#
# Ownership in one sentence: a Session owns its identity and the events it holds until it is closed, an Event owns a
# copy of its records, everything Python gets is a copy.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from audito._scan cimport Span, span_of

cdef enum:
    SESSION_INDEX_START = 4096      # slots of the indexes of sessions at the start, a power of two; they double
    HELD_EVENTS_MAX = 65536         # events waiting for a login line, all sessions together …
    HELD_BYTES_MAX = 48 << 20       # … and their bytes: past either, audit input pauses
    HELD_BYTES_SLACK = 16 << 20     # what may come all the same; past that the longest waiting are given up
    IDENTITY_BYTES_MAX = 65536      # of a source, and of subjects: sshd's lines have 8 KiB, six bytes each in JSON
    CACHE_LINE = 64                 # bytes

cdef enum EventFlag:
    EVENT_LOGIN = 1                 # has a LOGIN record: it opened its session
    EVENT_ENDS_SESSION = 2          # sshd's own end of the session, from the login's pid
    EVENT_TRUNCATED = 4             # records did not fit EVENT_BYTES_MAX

cdef enum SessionState:
    SESSION_FREE = 0
    SESSION_CANDIDATE = 1           # a LOGIN record that does not say which program: the pid will decide
    SESSION_SSHD = 2                # the kernel says that sshd opened it; no login line yet
    SESSION_BOUND = 3               # a login line says who
    SESSION_KERNEL = 4              # no login line came: written with what the kernel knows


cdef enum Correlation:              # the order of events.CORRELATIONS
    JOINED_BY_PID = 0               # sshd's login line has the pid of the LOGIN record
    JOINED_BY_KERNEL = 1            # no login line: acct and addr of the audit records alone
    JOINED_BY_VENDOR = 2            # the same, with the key or certificate that a patched sshd tells the kernel
    JOINED_LATE = 3                 # the login line came after the session had been given up


# Every session is in one list, which says in what order sessions go when the table is full: first those that
# ended, then those whose identity nobody vouches for, then the bound ones; one that waits is given up before.
cdef enum:                          # SessionList
    LIST_WAITING = 0                # no identity yet: holds its events. In the order of opening: load() keeps that
    LIST_ENDED = 1
    LIST_KERNEL = 2
    LIST_BOUND = 3
    LISTS = 4


# One record in an event's bytes: this head, then the line from `type=`, padded to 8 bytes.
cdef struct Record:
    uint32_t len                    # bytes of the line
    uint16_t type                   # number; 0 for a name that no table knows
    uint16_t body                   # offset of the text after `): ` in the line


# An audit event: in flight, held or handed to the sink. One malloc: this head, then `used` bytes of records.
#   0 .. used      whole records, each at a multiple of 8
#   used .. size   free
cdef struct Event:
    Event *next                     # in a session's held chain, or in the free list
    uint64_t ts_ms
    uint64_t offset                 # of its first line in the audit stream
    uint32_t seq
    uint32_t node
    int32_t session                 # slot in Sessions, -1: not known yet
    uint32_t generation             # of that slot when it was taken
    uint32_t used
    uint32_t size
    uint32_t records                # without EOE
    uint16_t flags                  # EventFlag
    uint16_t first_type             # of the record that came first: it names the event


# Who a session is, as JSON. One malloc: this head, then source and subjects behind each other: an event that is
# written reads them in one go, which counts where thousands of sessions are in no cache.
cdef struct Identity:
    uint32_t source_len             # bytes
    uint32_t subjects_len


# One audit session of an ssh login. Slots are reused: a generation tells an old reference from a new one.
# Two cache lines: what each event asks for is in the first.
cdef struct Session:
    Identity *identity              # from STATE_BOUND on
    uint64_t open_ms                # record time of LOGIN
    uint64_t seen_ms                # record time of the last event
    uint32_t ses
    uint32_t node
    int32_t pid                     # of the LOGIN record: sshd's monitor, the pid of the login line
    uint32_t generation
    uint32_t actions                # written so far
    uint32_t failures               # of them with outcome failed
    uint32_t commands               # of them an execve
    int32_t login_flight            # flight of its LOGIN event + 1, 0: that event is over
    uint8_t state                   # SessionState
    uint8_t list                    # SessionList
    uint8_t ended                   # its end was seen; kept as a tombstone for what was left running
    uint8_t acted                   # it did something since it was last looked at for a place
    uint8_t indexed                 # its number leads to it; not any more once a newer session has the number
    uint8_t announced               # the core was told of it
    uint8_t proven                  # a kernel record of the login's pid names sshd as its program
    uint8_t correlation             # Correlation: how the identity was found

    uint64_t born_ms                # wall clock of the last tick when it was opened, 0: there was none yet
    Event *held_head                # events that wait for the login line, oldest first
    Event *held_tail
    uint64_t end_ms                 # record time of its end, and …
    uint32_t end_seq                # … serial of that event: what comes later is marked
    int32_t pid_next                # next slot with the same pid hash, -1
    int32_t parent                  # slot of the session that it was opened in (old-ses), -1: none
    uint32_t parent_generation
    int32_t next                    # neighbours in its list, in the order of entering
    int32_t prev
    uint8_t _line[8]


cdef struct IndexEntry:             # the number beside the slot: a look-up touches no slot but the one it looks for
    uint32_t ses
    uint32_t slot                   # + 1, 0: free


cdef class SessionInfo:
    # What Python is told of a session: a copy. As a dict it took four times as long, and a login asks for four.
    cdef readonly uint32_t node, ses, actions, failures, commands
    cdef readonly int32_t pid
    cdef readonly uint64_t open_ms, seen_ms, born_ms
    cdef readonly uint8_t state, correlation
    cdef readonly bint ended, announced


cdef class Sessions:
    # Flat table of sessions with two open-addressed indexes, by (node, ses) and by pid.
    #   by_ses[i]: linear probing, deletion shifts back: no tombstones
    #   chain_by_pid[h]: slot + 1 of the first session whose pid hashes to h
    # Python sees slots as plain ints, and dump() and load() for the checkpoint.
    cdef void *memory                       # of the slots, which start at the next cache line
    cdef Session *slots
    cdef IndexEntry *by_ses
    cdef uint32_t *chain_by_pid
    cdef uint32_t capacity, used, free_head, live
    cdef uint32_t index_mask
    cdef int32_t heads[LISTS]
    cdef int32_t tails[LISTS]
    cdef uint32_t generations
    cdef uint64_t held_events, held_bytes
    cdef readonly uint64_t evicted          # sessions pushed out by new ones, table full
    cdef readonly uint64_t evicted_live     # of them those whose end was not seen
    cdef public uint64_t refused            # LOGIN of another program than sshd

    cdef int32_t find(self, uint32_t node, uint32_t ses) noexcept nogil
    cdef int32_t open(self, uint32_t node, uint32_t ses, int32_t pid, uint64_t ts_ms) except -2
    cdef void close(self, int32_t slot) noexcept
    cdef void hold(self, int32_t slot, Event *event) noexcept nogil
    cdef void enlist(self, int32_t slot, uint8_t list) noexcept nogil
    cdef void unlist(self, int32_t slot) noexcept nogil
    cdef void settle_list(self, int32_t slot) noexcept nogil
    cdef bint must_give_up(self) noexcept nogil
    cdef int grow(self) except -1
    cdef void use_large_pages(self) noexcept nogil
    cdef void chain_insert(self, int32_t slot) noexcept nogil
    cdef void index_insert(self, int32_t slot) noexcept nogil
    cdef void index_remove(self, int32_t slot) noexcept nogil
    cdef uint64_t oldest_held_offset(self) noexcept nogil
    cdef int32_t slot_new(self) except -2
    cdef int32_t quiet_one(self) noexcept nogil
    cdef Session *checked(self, int32_t slot) except NULL


cdef inline const uint8_t *identity_source(Identity *identity) noexcept nogil:
    return <uint8_t *>identity + sizeof(Identity)


cdef inline const uint8_t *identity_subjects(Identity *identity) noexcept nogil:
    return identity_source(identity) + identity.source_len


cdef inline Record *first_record(Event *event) noexcept nogil:
    return <Record *>(<uint8_t *>event + sizeof(Event))


cdef inline bint record_before_end(Event *event, Record *record) noexcept nogil:
    return <uint8_t *>record < <uint8_t *>event + sizeof(Event) + event.used


cdef inline Record *next_record(Record *record) noexcept nogil:
    return <Record *>(<uint8_t *>record + ((sizeof(Record) + record.len + 7) & ~<size_t>7))


cdef inline const uint8_t *record_line(Record *record) noexcept nogil:
    return <const uint8_t *>record + sizeof(Record)


cdef inline Span record_body(Record *record) noexcept nogil:
    # The text after `): `.
    return span_of(record_line(record) + record.body, <Py_ssize_t>record.len - record.body)
