# The compiled core: every limit, stateful struct and class, each with its invariant. The .pyx has the bodies.
#
# Ownership in one sentence: whoever calls feed() owns the bytes read until it returns, an Event owns a copy
# of its records until it is recycled, everything Python gets is a copy. No pointer outlives its call.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from audito._gaps cimport Serials
from audito._scan cimport Header, Span
from audito._sessions cimport Event, Record, Session, Sessions

cdef enum:
    LINE_BYTES_MAX = 65536          # the kernel cuts a record at 8,970 bytes; ENRICHED names come on top
    EVENT_BYTES_MAX = 4 << 20       # argv of 1 MiB, in hex, with its a1[0]= keys, fits
    EVENT_BYTES_START = 4096        # room for the records of a usual execve (1.1 KB) without growing
    INFLIGHT_EVENTS_MAX = 4096      # events with records missing; the kernel interleaves tens, not thousands
    INFLIGHT_INDEX = 8192           # slots of the index over them, a power of two, at most half full
    DONE_RING = 16384               # sequences that are over or ignored, direct mapped; a power of two
    FREE_EVENTS_MAX = 1024          # recycled events kept for reuse (4 MiB)
    INFLIGHT_BYTES_MAX = 32 << 20   # of all events in flight; past that the oldest is completed early
    NODE_CLOCKS = 64                # hosts whose record time is kept apart, direct mapped; a power of two
    CLOCK_JUMP_MS = 60000           # a stamp further ahead than this moves the clock only when a second one agrees
    EVENT_TIMEOUT_MS = 2000         # record time after which an event is complete: auparse's EOE_TIMEOUT
    TYPES_MAX = 4096                # record type numbers with a row; a greater number is a generic one
    STAMP_BYTES_MAX = 48            # `msg=audit(9999999999.999:4294967295)` is 36
    TYPE_INDEX = 1024               # slots of the index of type names, a power of two, at most half full
    TYPE_ROW_NAME_MAX = 29          # bytes of a type's name; the longest known has 24

cdef enum TypeFlag:
    TYPE_SESSION = 1                # its own text has the acting session's ses=, with no user text before it
    TYPE_SINGLE = 2                 # alone it is a whole event
    TYPE_ENDS = 4                   # PROCTITLE, EOE: the last record of an event
    TYPE_KNOWN = 8                  # it has a row
    TYPE_STATE = 16                 # tells of auditing itself: CONFIG_CHANGE, and all of auditd's own, DAEMON_*

cdef enum RecordType:               # the numbers that the core itself acts on (linux/audit.h)
    TYPE_USER_FIRST = 1100          # USER_AUTH
    TYPE_CRED_ACQ = 1103
    TYPE_CRED_DISP = 1104
    TYPE_USER_START = 1105
    TYPE_USER_END = 1106
    TYPE_USER_LAST = 1199
    TYPE_DAEMON_START = 1200        # the first of auditd's own: they have serials of a count of auditd's
    TYPE_DAEMON_LAST = 1299
    TYPE_SYSCALL = 1300
    TYPE_PATH = 1302
    TYPE_CONFIG_CHANGE = 1305
    TYPE_SOCKADDR = 1306
    TYPE_CWD = 1307
    TYPE_EXECVE = 1309
    TYPE_EOE = 1320
    TYPE_PROCTITLE = 1327
    TYPE_LOGIN = 1006
    TYPE_CRYPTO_KEY_USER = 2404
    TYPE_NO_NAME = 0xFFFF           # what stands behind `type=` is the name of no type, and the line no record
    TYPE_SINGLE_FROM = 2100         # ANOM_LOGIN_FAILURES: from here on messages of programs

cdef class EventSink:
    # What takes whole events. It must not keep the pointers: the event is recycled when the call returns.
    cdef int take_event(self, Event *event, Session *session) except -1


# An event in flight: in the index and the age list. FREE: event is NULL, and `newer` leads to the next free one, so
# counted from the one behind it that what was never used, and is not touched, is a list already.
cdef struct Flight:
    Event *event
    uint64_t born_ms                # wall clock of the last tick before its first record; live only
    uint64_t opened_ms              # record time of its node when its first record came, or its own stamp: the later.
                                    # A stamp is that of the syscall's entry: an open() on FUSE may block long before
    int32_t older                   # neighbours by age of the first record
    int32_t newer
    uint8_t keep                    # its session is ours: copy all its records
    uint8_t _pad[7]


# A sequence whose further records are skipped on sight: it is over, or of no session of ours.
cdef struct Done:
    uint64_t ts_ms
    uint32_t seq
    uint32_t node
    bint kept                       # it was ours: a record that still comes is missing in what was written


# Record time of one host. One stamp that is far ahead (a torn line, a clock set wrong for a moment) must not
# complete all that is in flight.
cdef struct NodeClock:
    uint64_t ms
    uint64_t before_ms              # what it was before the last record
    uint64_t top_ms                 # what it was before it was set back, 0: it was not, or serials began anew since
    uint64_t jump_ms                # the last stamp that was too far ahead to be believed, 0: none
    uint32_t node


cdef struct TypeRow:                # a record type's name and number; len 0: a free slot of the index
    uint8_t name[TYPE_ROW_NAME_MAX]
    uint8_t len
    uint16_t number


cdef class Types:
    # The record types, by name and by number. Never changed: streams share it.
    cdef TypeRow rows[TYPE_INDEX]
    cdef uint8_t flags[TYPES_MAX]

    cdef int add(self, bytes name, int number, int flags) except -1


cdef class AuditStream:
    # Framer, header reader and reassembly of one audit stream; decides in C whether an event is ours.
    # Configuration
    cdef readonly Sessions sessions
    cdef EventSink sink
    cdef bint keep_all                      # decode: every event, no session needed
    cdef object reject                      # callable(line: bytes, reason: str) or None
    cdef object opened                      # callable(slot: int) or None: a session has its first whole event
    cdef object inherited                   # callable(slot: int, parent: int): opened inside another session
    cdef object ended                       # callable(slot: int, ts_ms: int): sshd ended this session, its events are out
    cdef object told                        # callable(pid: int, ts_ms: int, line: bytes): who logs in, by sshd to the kernel
    cdef object crowded                     # callable(slot: int): give this waiting session up, the table is full
    cdef object gaps                        # Watcher or None: see _gaps.pyi
    cdef Types types
    # State
    cdef bytearray carry_buffer             # a line that is not whole yet
    cdef uint32_t carried
    cdef bint skipping                      # in a line longer than LINE_BYTES_MAX, until its newline
    cdef uint64_t line_offset               # stream offset of the line in hand
    cdef readonly uint64_t offset           # stream offset of the next byte
    cdef uint64_t known_offset              # lines that begin before it were read before a restart
    cdef readonly Serials serials
    cdef NodeClock clocks[NODE_CLOCKS]
    cdef readonly uint64_t clock_ms         # record time of the node of the last record
    cdef readonly uint64_t top_ms           # greatest record time of all
    cdef uint64_t inflight_bytes
    cdef uint64_t due_ms                    # no flight times out before; a look at them is due when a clock passes it
    cdef uint64_t now_ms                    # wall clock of the last tick, 0: none yet
    cdef Flight *flights                    # INFLIGHT_EVENTS_MAX
    cdef uint16_t index[INFLIGHT_INDEX]     # flight + 1
    cdef int32_t oldest, newest, last_flight
    cdef int32_t free_flight                # INFLIGHT_EVENTS_MAX: there is none
    cdef Done *done
    cdef uint8_t stamp[STAMP_BYTES_MAX]     # of the last line that was decided on; what the next lines likely carry
    cdef uint32_t stamp_len                 # 0: none
    cdef int32_t stamp_flight               # whose it is; -1: of an ignored event
    cdef Py_ssize_t ses_hint                # where in the last kernel record ` ses=` stood
    cdef set again                          # (node, ts_ms, seq) of the events that a checkpoint left open; None …
    cdef uint64_t again_until               # … once the input was read again to this offset, which it had come to …
    cdef uint64_t again_ms                  # … with record time at this
    cdef Event *free_events
    cdef uint32_t free_event_count
    # Counters, monotonic
    cdef readonly uint64_t lines, blank_lines, records, skipped, events_ignored, events_taken, events_held
    cdef readonly uint64_t events_timed_out, events_forced, events_truncated, events_late, events_refused
    cdef readonly uint64_t rejects_failed
    cdef readonly uint64_t reject_not_a_record, reject_bad_stamp, reject_too_long
    cdef readonly uint64_t types_unknown

    cdef uint16_t type_number(self, Span name) noexcept nogil
    cdef uint8_t flags_of(self, uint16_t type) noexcept nogil
    cdef const uint8_t *finish_carried(self, const uint8_t *p, const uint8_t *end) except NULL
    cdef int carry(self, const uint8_t *p, Py_ssize_t len) except -1
    cdef int take_line(self, const uint8_t *line, Py_ssize_t length) except -1
    cdef int take_next(self, const uint8_t *line, Py_ssize_t length, const uint8_t *blank) except -1
    cdef void remember_stamp(self, Span line, Header *header, int32_t flight) noexcept nogil
    cdef int reject_line(self, const uint8_t *line, Py_ssize_t length, int code) except -1
    cdef int lose_line(self, const uint8_t *line, Py_ssize_t length) except -1
    cdef int take_record(self, Span line, Header *header) except -1
    cdef bint is_over(self, Header *header) except -1
    cdef int take_state(self, Span line, Header *header, uint16_t type) except -1
    cdef bytes node_name(self, const uint8_t *line, Header *header)
    cdef int note(self, Span line, Header *header, uint16_t type) except -1
    cdef int32_t decide(self, Span line, Header *header, uint16_t type, uint8_t flags, int32_t flight) except -3
    cdef int32_t take_apart(self, Span line, const uint8_t *rest) except -3
    cdef int tell(self, Span line, Header *header, Span body) except -1
    cdef int32_t open_by_start(self, Span body, Header *header, uint32_t ses) except -2
    cdef int ignore(self, Span line, Header *header, uint8_t flags, int32_t flight) except -1
    cdef void mark_done(self, uint64_t ts_ms, uint32_t seq, uint32_t node, bint kept) noexcept nogil
    cdef int append(self, int32_t flight, Span line, Header *header, uint16_t type, uint8_t flags) except -1
    cdef int32_t flight_of(self, Header *header) noexcept nogil
    cdef int32_t flight_open(self, Header *header) except -2
    cdef void flight_close(self, int32_t flight) noexcept nogil
    cdef uint64_t move_clock(self, Header *header) noexcept nogil
    cdef NodeClock *clock_of(self, uint32_t node) noexcept nogil
    cdef int time_out(self) except -1
    cdef int force_oldest(self) except -1
    cdef int32_t open_by_login(self, Header *header, Span body) except -3
    cdef int inherit(self, Event *event, Session *session) except -1
    cdef int complete(self, int32_t flight) except -1
    cdef int complete_login(self, int32_t slot) except -1
    cdef int settle(self, Event *event) except -1
    cdef Session *session_of(self, Event *event) noexcept nogil
    cdef int judge_login(self, Event *event, Session *session) except -1
    cdef int judge_message(self, Event *event, Session *session) except -1
    cdef int refuse(self, int32_t slot) except -1
    cdef uint64_t held_by(self, int32_t slot) noexcept nogil
    cdef int deliver(self, Event *event, Session *session) except -1
    cdef int hold(self, Event *event) except -1
    cdef int release(self, int32_t slot) except -1
    cdef Event *event_new(self) except NULL
    cdef Event *event_append(self, Event *event, Span line, Header *header, uint16_t type) except NULL
    cdef void event_free(self, Event *event) noexcept nogil
