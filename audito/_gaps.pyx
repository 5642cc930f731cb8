"""Which serials of the kernel came, and which are missing. See _gaps.pxd for the structs and the rules."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memmove, memset

from audito._scan cimport read_header, span_of, span_starts

cdef extern from *:
    int __builtin_ctzll(unsigned long long word) nogil

# No serial: they have 32 bits.
cdef uint64_t NO_SEQ = 1ULL << 40

cdef enum:
    TYPE_LOGIN = 1006
    TYPE_USER_FIRST = 1100
    TYPE_USER_AVC = 1107
    TYPE_USER_LAST = 1199
    TYPE_DAEMON_FIRST = 1200
    TYPE_DAEMON_LAST = 1299
    TYPE_SYSCALL = 1300
    TYPE_CONFIG_CHANGE = 1305

# ---------------------------------------------------------------------------------------------- leaves


cdef inline uint64_t *word_of(Track *track, uint32_t seq) noexcept nogil:
    return &track.bits[(seq // 64) & (WINDOW_WORDS - 1)]


cdef inline bint is_seen(Track *track, uint32_t seq) noexcept nogil:
    # Of a serial in the window.
    return (word_of(track, seq)[0] >> (seq & 63)) & 1


cdef inline void see(Track *track, uint32_t seq) noexcept nogil:
    word_of(track, seq)[0] |= 1ULL << (seq & 63)


cdef inline uint32_t unseen_from(Track *track, uint32_t seq) noexcept nogil:
    # How many are not seen from here on, up to the end of a word; 0: this one is.
    cdef uint64_t word = word_of(track, seq)[0] >> (seq & 63)
    return <uint32_t>__builtin_ctzll(word) if word else <uint32_t>(64 - (seq & 63))


cdef inline bint is_behind(Track *track, uint32_t seq) noexcept nogil:
    # Whether a serial is of before `end`. Half of all numbers would be, but a step over the wrap is a short one: from
    # 3,000,000,000 to 1 is a reboot, and no loss of a billion.
    if seq < track.end:
        return track.restarted or seq - track.end > <uint32_t>WRAP_MAX
    return track.end - seq <= <uint32_t>WRAP_MAX


cdef inline bint are_near(uint32_t a, uint32_t b) noexcept nogil:
    return a - b <= <uint32_t>FAR or b - a <= <uint32_t>FAR


cdef class Serials:

    def __cinit__(self, watcher=None):
        self.watcher = watcher
        self.names = []
        self.next_seq = NO_SEQ

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.count):
            PyMem_Free(self.tracks[i])

    # ------------------------------------------------------------------------------ nodes

    cdef void leave(self) noexcept nogil:
        # Write back what went the short way.
        if self.next_seq != NO_SEQ:
            self.track.base = self.track.end = <uint32_t>self.next_seq
            self.next_seq = NO_SEQ

    cdef void stay(self) noexcept nogil:
        # Let what follows go the short way, where nothing is missing and nothing is waited for.
        cdef Track *track = self.track
        if track is not NULL and track.known and track.base == track.end and not track.off_ms and not track.restarted:
            self.next_seq = track.end
            self.next_node = track.node

    cdef Track *find(self, uint32_t node) noexcept nogil:
        cdef uint32_t i
        for i in range(self.count):
            if self.tracks[i].node == node:
                return self.tracks[i]
        return NULL

    cdef Track *enter(self, Header *header, const uint8_t *line) except NULL:
        # The track of the node that a line is from, made where there is none: it is the one in hand.
        cdef Track *track = self.find(header.node)
        cdef Py_ssize_t length = 0
        if track is NULL:
            if header.text:                 # `node=NAME type=`
                length = min(<Py_ssize_t>header.text - 6, <Py_ssize_t>NODE_NAME_BYTES_MAX)
            track = self.track_new(header.node, PyBytes_FromStringAndSize(<const char *>line + 5, length))
        self.uses += 1
        track.used = self.uses
        self.track = track
        return track

    cdef Track *track_new(self, uint32_t node, bytes name) except NULL:
        cdef Track *track
        cdef uint32_t i, index
        if self.count < NODES_MAX:
            track = <Track *>PyMem_Calloc(1, sizeof(Track))
            if track is NULL:
                raise MemoryError()
            self.names.append(name)
            track.index = self.count
            self.tracks[self.count] = track
            self.count += 1
        else:
            track = self.tracks[0]
            for i in range(1, self.count):
                if self.tracks[i].used < track.used:
                    track = self.tracks[i]
            self.nodes_evicted += 1
            self.settle(track, track.end - track.base)
            index = track.index
            memset(track, 0, sizeof(Track))
            track.index = index
            self.names[index] = name
        track.node = node
        return track

    # ------------------------------------------------------------------------------ records

    cdef int note(self, Header *header, const uint8_t *line, uint64_t before_ms, uint64_t clock_ms,
                  uint16_t type) except -1:
        # A record whose serial is not simply the next. `before_ms`: the latest that its node's clock said before it in
        # this count; `clock_ms`: what it says now. Returns 1 where a new count begins, else 0.
        cdef Track *track
        cdef int begins = 0
        self.leave()
        if TYPE_DAEMON_FIRST <= type <= TYPE_DAEMON_LAST or (type == 0 and span_starts(header.name, b"DAEMON_", 7)):
            self.stay()
            return 0                        # auditd's own count
        track = self.track
        if track is NULL or track.node != header.node:
            track = self.enter(header, line)
        if not track.known or (track.restarted and max(track.clock_ms, before_ms) < track.boot_ms):
            self.settle(track, track.end - track.base)
            self.begin(track, header.seq, clock_ms)
            begins = 1
        elif header.seq - track.end <= <uint32_t>FAR:
            if track.off_ms:
                self.look_on(track, header, type)
            self.forward(track, header.seq, clock_ms)
        elif header.seq - track.base < track.end - track.base and not (
                track.restarted and is_seen(track, header.seq)):
            self.fill(track, header.seq)
        else:
            begins = self.stray(track, header, before_ms, clock_ms)
        self.stay()
        return begins

    cdef bint read(self, const uint8_t *line, Py_ssize_t length, Header *header) noexcept nogil:
        # Whether a line that is no record otherwise says whose it would be.
        return read_header(span_of(line, length), header) == 0

    cdef void begin(self, Track *track, uint32_t seq, uint64_t clock_ms) noexcept nogil:
        # The first serial of a count: what was before it is not known, and not missed.
        track.base = track.end = <uint32_t>(seq + 1)
        track.run = track.marks = 0
        track.clock_ms = clock_ms
        track.boot_ms = 0
        track.known = True
        track.has_far = track.restarted = False

    cdef int forward(self, Track *track, uint32_t seq, uint64_t clock_ms) except -1:
        # A serial at `end` or a little further on.
        track.clock_ms = clock_ms
        track.restarted = False
        if track.base == track.end and seq == track.end:
            track.base = track.end = <uint32_t>(seq + 1)
            return 0
        if seq - track.base >= <uint32_t>WINDOW:
            self.settle(track, <uint32_t>(seq - track.base - WINDOW + 1))
        see(track, seq)
        track.end = <uint32_t>(seq + 1)
        return self.pass_time(track)

    cdef int fill(self, Track *track, uint32_t seq) except -1:
        # A serial of the window: one that was missing, or another record of an event that was interleaved.
        if is_seen(track, seq):
            self.again += 1
            return 0
        see(track, seq)
        return self.settle(track, 0)

    cdef int stray(self, Track *track, Header *header, uint64_t before_ms, uint64_t clock_ms) except -1:
        # A serial of before the window, or far ahead. Records that are read again are of before, and so are their
        # stamps; after a boot the serials are lower and the stamps later. One alone proves neither that nor a loss: it
        # may be a torn line. The second one, near the first, does; of more than the kernel can have made since, though,
        # two prove no loss but another count. Returns 1 where that begins, else 0.
        cdef uint32_t seq = header.seq
        cdef bint behind = is_behind(track, seq)
        cdef bint agrees = track.has_far and are_near(seq, track.far) and (
            track.end - track.far_end <= <uint32_t>FAR)
        cdef uint64_t known_ms = track.far_ms if agrees else max(track.clock_ms, before_ms)
        cdef uint32_t low, high
        cdef bint anew
        if behind and not track.restarted and (track.end - seq <= <uint32_t>FAR or header.ts_ms <= known_ms):
            self.again += 1
            return 0
        if not agrees:
            track.has_far = True
            track.far = seq
            track.far_end = track.end
            track.far_ms = known_ms
            self.doubted += 1
            return 0
        if seq == track.far:
            return 0                        # of the same event
        low, high = (track.far, seq) if seq - track.far <= <uint32_t>FAR else (seq, track.far)
        anew = behind or known_ms < track.boot_ms or (
            low - track.end > (max(header.ts_ms, known_ms) - known_ms + RATE_SLACK_MS) * RATE_MAX)
        self.believe(track, low, high, anew, clock_ms)
        return anew

    cdef int believe(self, Track *track, uint32_t low, uint32_t high, bint anew, uint64_t clock_ms) except -1:
        # Two serials agree: a new count, or a loss of more than FAR. A loss that the window does not hold is one hole
        # all the same; half a window before its end stays open for what comes late.
        if anew:
            self.settle(track, track.end - track.base)
            self.begin(track, low, clock_ms)
        else:
            if high - track.base >= <uint32_t>WINDOW:
                self.settle(track, <uint32_t>(low - track.base - WINDOW // 2))
            see(track, low)
            track.end = <uint32_t>(low + 1)
        track.has_far = track.restarted = False
        return self.forward(track, high, clock_ms)

    cdef int restart(self, uint32_t node) except -1:
        # auditd started: after a boot, or not.
        cdef Track *track
        self.leave()
        track = self.find(node)
        if track is not NULL:
            track.restarted = True
        return 0

    cdef int switch(self, uint32_t node, uint64_t off_ms) except -1:
        # Auditing was switched off by the record of this stamp; 0: it is on.
        cdef Track *track
        self.leave()
        track = self.find(node)
        if track is not NULL:
            track.off_ms = off_ms
        self.stay()
        return 0

    cdef int look_on(self, Track *track, Header *header, uint16_t type) except -1:
        # The kernel does not log that auditing is switched on (audit_do_config_change() logs while it is on). What it
        # logs only while it is on shows it; a syscall's record only says so of the time when it was entered.
        if header.ts_ms <= track.off_ms + OFF_SLACK_MS:
            return 0
        if not (type == TYPE_SYSCALL or type == TYPE_CONFIG_CHANGE or type == TYPE_LOGIN
                or (TYPE_USER_FIRST <= type <= TYPE_USER_LAST and type != TYPE_USER_AVC)):
            return 0
        track.off_ms = 0
        if self.watcher is not None:
            self.watcher.auditing_on(self.names[track.index], header.seq, header.ts_ms)
        return 0

    # ------------------------------------------------------------------------------ time

    cdef int pass_time(self, Track *track) except -1:
        # Decide what is missing for longer than SETTLE_MS. Marks are MARK_MS apart, so this is up to that much later.
        cdef Mark *last
        if track.base == track.end:
            track.marks = 0
            return 0
        if track.marks:
            last = &track.mark[track.marks - 1]
            if track.clock_ms + MARK_MS < last.ms:
                last.ms = track.clock_ms    # the clock was set back: begin to wait anew
                track.mark[0] = last[0]
                track.marks = 1
        if track.marks == 0 or track.clock_ms >= track.mark[track.marks - 1].ms + MARK_MS:
            if track.marks < MARKS:
                track.marks += 1
            track.mark[track.marks - 1].ms = track.clock_ms
            track.mark[track.marks - 1].end = track.end
        while track.marks and track.mark[0].ms + SETTLE_MS < track.clock_ms:
            if track.mark[0].end - track.base <= <uint32_t>WINDOW:
                self.settle(track, track.mark[0].end - track.base)
            if track.marks == 0:            # nothing is missing any more
                return 0
            track.marks -= 1
            memmove(&track.mark[0], &track.mark[1], track.marks * sizeof(Mark))
        return 0

    cdef int tick(self, uint64_t now_ms) except -1:
        # The wall clock, where the input was read to its end: nothing that was written long ago is still to come.
        cdef Track *track
        cdef uint32_t i
        self.leave()
        for i in range(self.count):
            track = self.tracks[i]
            if track.wall_end != track.end:
                track.killed_ms = 0         # what came shows what is missing before it
            if track.base == track.end and not track.killed_ms:
                track.wall_ms = 0
            elif track.wall_ms == 0 or track.wall_end != track.end or now_ms < track.wall_ms:
                track.wall_ms = now_ms
                track.wall_end = track.end
            elif now_ms - track.wall_ms > SETTLE_MS:
                self.settle(track, track.end - track.base)
                self.wonder(track)
        self.stay()
        return 0

    cdef int flush(self) except -1:
        # The end of the input: what did not come does not come.
        cdef Track *track
        cdef uint32_t i
        self.leave()
        for i in range(self.count):
            track = self.tracks[i]
            self.settle(track, track.end - track.base)
            if track.wall_end == track.end:
                self.wonder(track)
        self.stay()
        return 0

    cdef int wonder(self, Track *track) except -1:
        # Nothing came behind what a killed process saved: no hole will show what else it had read.
        cdef uint64_t killed_ms = track.killed_ms
        track.killed_ms = 0
        if killed_ms and self.watcher is not None:
            self.watcher.silent(self.names[track.index], <uint32_t>(track.end - 1), killed_ms)
        return 0

    cdef int settle(self, Track *track, uint32_t count) except -1:
        # Decide the next `count` serials from `base` on, and those behind them that came. A hole ends, and is told,
        # where one follows that came.
        cdef uint32_t step
        while track.base != track.end:
            step = unseen_from(track, track.base)
            if step == 0:
                if track.run:
                    self.tell(track)
                word_of(track, track.base)[0] &= ~(1ULL << (track.base & 63))
                track.base += 1
                count -= count > 0
                continue
            if count == 0:
                return 0
            step = min(step, min(count, track.end - track.base))
            track.run += step
            track.base += step
            count -= step
        track.run += count                  # beyond the last one: a loss that the window does not hold
        track.base += count
        track.end = track.base
        track.marks = 0
        return 0

    cdef int tell(self, Track *track) except -1:
        cdef uint32_t first = track.base - track.run
        cdef uint32_t count = track.run
        cdef uint64_t ms = track.clock_ms
        cdef uint32_t i
        track.run = 0
        for i in range(track.marks):        # when it was first seen that something is missing there
            if <uint32_t>(track.mark[i].end - first - 1) < <uint64_t>count + WINDOW:
                ms = track.mark[i].ms
                break
        if self.watcher is not None:
            self.watcher.hole(self.names[track.index], first, <uint32_t>(track.base - 1), count, ms)
        return 0

    # ------------------------------------------------------------------------------ checkpoint

    cdef bytes packed(self, Track *track):
        # The bits from base to end, the lowest first.
        cdef uint32_t width = track.end - track.base
        cdef uint32_t i
        cdef bytearray bits = bytearray((width + 7) // 8)
        for i in range(width):
            bits[i // 8] |= is_seen(track, track.base + i) << (i & 7)
        return bytes(bits)

    def dump(self, dict clocks):
        cdef Track *track
        cdef uint32_t i
        cdef list rows = []
        self.leave()
        for i in range(self.count):
            track = self.tracks[i]
            if track.known:
                rows.append((self.names[i], track.node, track.base, track.end, track.run,
                             max(track.clock_ms, clocks.get(track.node, 0)), track.off_ms,
                             track.mark[0].ms if track.marks else 0, track.far if track.has_far else None,
                             track.far_end, track.far_ms, self.packed(track), track.restarted))
        self.stay()
        return rows

    def load(self, rows, *, uint64_t boot_ms=0, uint64_t killed_ms=0):
        cdef Track *track
        cdef uint32_t i, width
        cdef bytes bits
        for row in rows:
            width = row.end - row.base & 0xFFFFFFFF
            bits = row.bits
            if width > WINDOW or len(bits) != (width + 7) // 8 or self.count >= NODES_MAX or (
                    self.find(row.node) is not NULL) or (width and not bits[(width - 1) // 8] >> ((width - 1) & 7) & 1):
                raise ValueError(f"serials {row.base} to {row.end} of node {row.name!r} in {len(bits)} bytes")
            track = self.track_new(row.node, row.name)
            track.base = row.base
            track.end = row.end
            track.run = row.run
            track.clock_ms = row.clock_ms
            track.off_ms = row.off_ms
            if row.far is not None:
                track.has_far = True
                track.far = row.far
            track.far_end = row.far_end
            track.far_ms = row.far_ms
            track.known = True
            track.restarted = row.restarted
            track.boot_ms = boot_ms
            track.killed_ms = killed_ms
            track.wall_end = row.end
            for i in range(width):
                if bits[i // 8] >> (i & 7) & 1:
                    see(track, track.base + i)
            if width and row.since_ms:
                track.mark[0].ms = row.since_ms
                track.mark[0].end = track.end
                track.marks = 1
        if boot_ms and killed_ms:
            self.flush()                    # of the boot before nothing comes any more

    def expect(self, open_events):
        cdef Track *track
        cdef uint32_t i, seq
        self.leave()
        for node, _, number in open_events:
            track = self.find(node)
            seq = number
            if track is NULL or track.end - seq - 1 >= <uint32_t>WINDOW:
                continue
            while seq - track.base >= track.end - track.base:
                track.base -= 1             # back over what was decided: it had come, but for a hole that is not told
                if track.run:
                    track.run -= 1
                else:
                    see(track, track.base)
            word_of(track, seq)[0] &= ~(1ULL << (seq & 63))
        for i in range(self.count):
            track = self.tracks[i]
            while track.end != track.base and not is_seen(track, track.end - 1):
                track.end -= 1              # the last one is one that was seen
            track.mark[0].end = track.end
            if track.base == track.end:
                track.marks = 0
