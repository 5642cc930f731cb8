# Which serials of the kernel came: every limit and struct, each with its invariant. The .pyx has the bodies.
#
# Each audit event takes one serial of 32 bits from one counter (kernel/audit.c, audit_serial()); all its records have
# it. The counter wraps, and starts again at boot. Events come out of order by some hundreds. A hole is a serial none of
# whose records came. It is told once the window has moved past it, or SETTLE_MS of the node's record time later, or
# where reading ends.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from audito._scan cimport Header

cdef enum:
    WINDOW = 16384                  # serials of a node that are known one by one, 2 KiB; a power of two
    WINDOW_WORDS = WINDOW // 64
    FAR = 1024                      # a serial further ahead of the last one is believed when a second one agrees
    WRAP_MAX = 1 << 24              # a step over 2**32 is no longer than this: a greater one is a new count
    RATE_MAX = 1000                 # events that a kernel makes in a millisecond, at the very most …
    RATE_SLACK_MS = 1000            # … stamps being those of when a syscall began
    NODES_MAX = 64                  # hosts whose serials are kept apart; the one that is silent the longest goes
    NODE_NAME_BYTES_MAX = 255       # of a node's name, for the event
    MARKS = 8                       # more than SETTLE_MS / MARK_MS
    MARK_MS = 1000
    SETTLE_MS = 5000                # of record time after which nothing comes late any more
    OFF_SLACK_MS = 100              # a syscall that was entered so long after auditing was switched off shows it on again


# What the clock said when serials up to `end` had come.
cdef struct Mark:
    uint64_t ms
    uint32_t end


# The serials of one node. All counting is modulo 2**32.
#   … base - run    decided, and told where they were missing
#   base - run .. base      missing, not told yet: more of the same hole may follow
#   base .. end     a bit each, seen or not; at most WINDOW; bits elsewhere are 0
#   end - 1         seen: the last one
cdef struct Track:
    uint32_t node                   # hash of its name, 0 without one
    uint32_t index                  # of the track
    uint32_t base
    uint32_t end
    uint32_t run
    uint32_t far                    # a serial that was too far off to be believed, where has_far
    uint32_t far_end                # `end` when it came
    uint32_t wall_end               # `end` at the tick of wall_ms, before the first one that of the saved state
    uint64_t far_ms                 # the clock before it came
    uint64_t clock_ms               # record time when the last new serial came that was not simply the next
    uint64_t boot_ms                # this host booted between the saved state and that wall clock, 0: it did not
    uint64_t off_ms                 # stamp of the record that switched auditing off, 0: it is on
    uint64_t wall_ms                # wall clock of the tick since which nothing new came, 0: nothing is waited for
    uint64_t killed_ms              # time of the loss by a kill whose input does not come again, until a serial
                                    # behind the saved ones shows what is missing; 0: it did, or there was none
    uint64_t used                   # when it was last looked for, in look-ups
    uint8_t known                   # a serial was seen
    uint8_t has_far
    uint8_t restarted               # auditd started, and no new serial since: a lower one is of another boot
    uint32_t marks                  # used of …
    Mark mark[MARKS]                # oldest first; none where nothing is missing
    uint64_t bits[WINDOW_WORDS]     # of serial s: bit s % 64 of word s / 64 % WINDOW_WORDS


cdef class Serials:
    # The serials that came, by node; tells `watcher` of holes.
    cdef uint64_t next_seq          # what comes next of the node in hand where nothing is missing: whoever sees it
    cdef uint32_t next_node         # adds one and need not call note(); no serial where something is
    cdef Track *track               # of the node in hand, NULL: none
    cdef Track *tracks[NODES_MAX]
    cdef uint32_t count
    cdef uint64_t uses
    cdef list names
    cdef object watcher             # hole(), auditing_on(): see the .pyi
    cdef readonly uint64_t again    # records of serials that were decided on before
    cdef readonly uint64_t doubted  # serials that were too far off to be believed alone
    cdef readonly uint64_t nodes_evicted

    cdef int note(self, Header *header, const uint8_t *line, uint64_t before_ms, uint64_t clock_ms,
                  uint16_t type) except -1
    cdef int restart(self, uint32_t node) except -1
    cdef int switch(self, uint32_t node, uint64_t off_ms) except -1
    cdef int tick(self, uint64_t now_ms) except -1
    cdef int flush(self) except -1
    cdef void leave(self) noexcept nogil
    cdef void stay(self) noexcept nogil
    cdef Track *find(self, uint32_t node) noexcept nogil
    cdef Track *enter(self, Header *header, const uint8_t *line) except NULL
    cdef Track *track_new(self, uint32_t node, bytes name) except NULL
    cdef bint read(self, const uint8_t *line, Py_ssize_t length, Header *header) noexcept nogil
    cdef void begin(self, Track *track, uint32_t seq, uint64_t clock_ms) noexcept nogil
    cdef int forward(self, Track *track, uint32_t seq, uint64_t clock_ms) except -1
    cdef int fill(self, Track *track, uint32_t seq) except -1
    cdef int stray(self, Track *track, Header *header, uint64_t before_ms, uint64_t clock_ms) except -1
    cdef int believe(self, Track *track, uint32_t low, uint32_t high, bint anew, uint64_t clock_ms) except -1
    cdef int look_on(self, Track *track, Header *header, uint16_t type) except -1
    cdef int pass_time(self, Track *track) except -1
    cdef int wonder(self, Track *track) except -1
    cdef int settle(self, Track *track, uint32_t count) except -1
    cdef int tell(self, Track *track) except -1
    cdef bytes packed(self, Track *track)
