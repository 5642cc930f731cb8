# What a line of sshd means: records and events of the lines that the scanner (_sshd) tells apart.
#
# Ownership: entry, match and spans are the scanner's and are borrowed for the time of one line; everything kept from
# one line to the next is a copy. Structs and dicts that several events share are never changed.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from audito._scan cimport Span
from audito._sshd cimport ADDR_BYTES_MAX, LINE_BYTES_MAX, Entry, LineSink, Match

cdef enum:
    SEEN_SLOTS = 256            # ids given last, to tell equal lines of one moment apart; a power of two
    PEER_SLOTS = 256            # peers whose Source is at hand: sshd says several lines of each; a power of two
    ACTOR_SLOTS = 256           # likewise Subjects
    DATA_SLOTS = 64             # likewise what is said of an attempt when nothing varies but its method
    TOLD_SETS = 1024            # connections of which a failure was told and whose end is still to come, …
    TOLD_WAYS = 4               # … so many of them in each set; a set that is full forgets its oldest
    PEER_BYTES_MAX = ADDR_BYTES_MAX + 16    # `ADDR port PORT`
    ACTOR_BYTES_MAX = 48        # longer names are no account's, and rare
    METHOD_BYTES_MAX = 40       # `keyboard-interactive/bsdauth` has 28
    ID_BYTES_MAX = LINE_BYTES_MAX + 96      # namespace, pid, time, message and number

cdef enum Means:
    MEANS_NOTE = 0              # known, and no event of its own
    MEANS_FAILURE = 1
    MEANS_LOGIN = 2
    MEANS_FACTOR = 3            # the first of several; a note, and remembered
    MEANS_CHILD = 4             # another process serves the user from now on
    MEANS_END = 5               # of a session; of a connection without one it is a note
    MEANS_GIVEN_UP = 6          # the end of a connection whose user never was authenticated

cdef enum:                      # fields: what events are made from; FIELDS in the .pyx names them in this order
    FIELD_VERB
    FIELD_INVALID
    FIELD_METHOD
    FIELD_USER
    FIELD_ADDR
    FIELD_HOST
    FIELD_PORT
    FIELD_PID
    FIELD_TEXT
    FIELD_KEY_TYPE
    FIELD_FP
    FIELD_KEY_ID
    FIELD_SERIAL
    FIELD_CA_TYPE
    FIELD_CA_FP
    FIELD_REASON
    FIELD_CLIENT_USER
    FIELD_CLIENT_HOST
    FIELD_COUNT


# What a variant of the grammar means.
cdef struct Reading:
    uint8_t means
    bint vis                    # log.c's escapes are to be undone
    bint invalid                # it says that the name is no account
    uint32_t telling            # bits of Match.read: what `data` is made from, but for the method
    int8_t places[FIELD_COUNT]  # of the fields in the row, -1 where it has none


# Whose text is kept in a slot of a table, and its hash; len 0: nobody's.
cdef struct PeerKey:
    uint64_t hash
    uint8_t len
    uint8_t text[PEER_BYTES_MAX]


cdef struct ActorKey:
    uint64_t hash
    int64_t pid
    uint8_t len
    uint8_t text[ACTOR_BYTES_MAX]


cdef struct DataKey:
    int32_t variant             # and 1, so that 0 is none
    int32_t cell                # of the counters
    uint8_t len
    uint8_t method[METHOD_BYTES_MAX]


cdef struct Seen:
    uint64_t hash
    uint32_t count


# BLAKE2b of 16 bytes without a key (RFC 7693), for ids: one block holds a usual line, where SHA-1 takes two slow ones.
# In C, so that the order of the words is known when it is compiled: half the time that a table of it takes.
cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static const uint64_t BLAKE2_IV[8] = {
        0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
        0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u,
    };

    #define BLAKE2_ROTR(x, n) (((x) >> (n)) | ((x) << (64 - (n))))

    #define BLAKE2_MIX(a, b, c, d, x, y) \\
        a += b + m[x]; d = BLAKE2_ROTR(d ^ a, 32); c += d; b = BLAKE2_ROTR(b ^ c, 24); \\
        a += b + m[y]; d = BLAKE2_ROTR(d ^ a, 16); c += d; b = BLAKE2_ROTR(b ^ c, 63);

    #define BLAKE2_ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15) \\
        BLAKE2_MIX(v0, v4, v8, v12, s0, s1) BLAKE2_MIX(v1, v5, v9, v13, s2, s3) \\
        BLAKE2_MIX(v2, v6, v10, v14, s4, s5) BLAKE2_MIX(v3, v7, v11, v15, s6, s7) \\
        BLAKE2_MIX(v0, v5, v10, v15, s8, s9) BLAKE2_MIX(v1, v6, v11, v12, s10, s11) \\
        BLAKE2_MIX(v2, v7, v8, v13, s12, s13) BLAKE2_MIX(v3, v4, v9, v14, s14, s15)

    /* 128 bytes at p; count: how many bytes of the message there are with these. Little-endian, as all we build for. */
    static void blake2_block(uint64_t *h, const uint8_t *p, uint64_t count, int last)
    {
        uint64_t m[16];
        uint64_t v0 = h[0], v1 = h[1], v2 = h[2], v3 = h[3], v4 = h[4], v5 = h[5], v6 = h[6], v7 = h[7];
        uint64_t v8 = BLAKE2_IV[0], v9 = BLAKE2_IV[1], v10 = BLAKE2_IV[2], v11 = BLAKE2_IV[3];
        uint64_t v12 = BLAKE2_IV[4] ^ count, v13 = BLAKE2_IV[5];
        uint64_t v14 = last ? ~BLAKE2_IV[6] : BLAKE2_IV[6], v15 = BLAKE2_IV[7];
        memcpy(m, p, 128);
        BLAKE2_ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
        BLAKE2_ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3)
        BLAKE2_ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4)
        BLAKE2_ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8)
        BLAKE2_ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13)
        BLAKE2_ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9)
        BLAKE2_ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11)
        BLAKE2_ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10)
        BLAKE2_ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5)
        BLAKE2_ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0)
        BLAKE2_ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
        BLAKE2_ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3)
        h[0] ^= v0 ^ v8; h[1] ^= v1 ^ v9; h[2] ^= v2 ^ v10; h[3] ^= v3 ^ v11;
        h[4] ^= v4 ^ v12; h[5] ^= v5 ^ v13; h[6] ^= v6 ^ v14; h[7] ^= v7 ^ v15;
    }
    """
    const uint64_t *BLAKE2_IV
    void blake2_block(uint64_t *h, const uint8_t *p, uint64_t count, int last) noexcept nogil


cdef inline void blake2(const uint8_t *p, Py_ssize_t n, uint8_t *digest) noexcept nogil:
    cdef uint64_t h[8]
    cdef uint8_t tail[128]
    cdef uint64_t count = 0
    memcpy(h, BLAKE2_IV, 64)
    h[0] ^= 0x01010010u  # depth 1, fanout 1, no key, 16 bytes
    while n > 128:
        count += 128
        blake2_block(h, p, count, 0)
        p += 128
        n -= 128
    memset(tail, 0, sizeof(tail))
    memcpy(tail, p, <size_t>n)
    blake2_block(h, tail, count + <uint64_t>n, 1)
    memcpy(digest, h, 16)


# Text of numbers and times.

cdef inline int64_t floor_div(int64_t a, int64_t b) noexcept nogil:
    # Towards minus infinity, for b > 0: times before 1970 have days, too.
    return a // b - (a % b < 0)


cdef inline void write_digits(uint8_t *out, int64_t value, int count) noexcept nogil:
    # The last `count` digits of a number that is not negative.
    while count:
        count -= 1
        out[count] = <uint8_t>(c'0' + value % 10)
        value //= 10


cdef inline Py_ssize_t write_time(uint8_t *out, int64_t time_us, int digit_count) noexcept nogil:
    # 2023-03-17T13:37:01.952459Z with `digit_count` digits of its fraction; returns the length, 27 at most.
    # The inverse of days_from_civil() in _sshd.pxd: years of 400 years' cycles begin in March.
    cdef int64_t seconds = floor_div(time_us, 1000000)
    cdef int64_t fraction = time_us - seconds * 1000000
    cdef int64_t days = floor_div(seconds, 86400)
    cdef int64_t era, doe, yoe, doy, mp, month
    seconds -= days * 86400
    days += 719468
    era = floor_div(days, 146097)
    doe = days - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    memcpy(out, b"YYYY-MM-DDTHH:MM:SS.ffffff", 26)
    write_digits(out, yoe + era * 400 + (month <= 2), 4)
    write_digits(out + 5, month, 2)
    write_digits(out + 8, doy - (153 * mp + 2) // 5 + 1, 2)
    write_digits(out + 11, seconds // 3600, 2)
    write_digits(out + 14, seconds // 60 % 60, 2)
    write_digits(out + 17, seconds % 60, 2)
    write_digits(out + 20, fraction, 6)
    if digit_count:
        out[20 + digit_count] = c'Z'
        return 21 + digit_count
    out[19] = c'Z'
    return 20


cdef inline Py_ssize_t write_int(uint8_t *out, int64_t value) noexcept nogil:
    # Decimal text of a number; returns its length, 20 at most.
    cdef uint8_t reverse[20]
    cdef uint64_t rest = <uint64_t>(-value) if value < 0 else <uint64_t>value
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t start = 0
    if value < 0:
        out[0] = c'-'
        start = 1
    while True:
        reverse[n] = <uint8_t>(c'0' + rest % 10)
        rest //= 10
        n += 1
        if not rest:
            break
    while n:
        n -= 1
        out[start] = reverse[n]
        start += 1
    return start


cdef class Meanings:
    # What each variant of a grammar means. Never changed: builders share it.
    cdef Reading *readings      # by variant
    cdef list words             # by variant: what each field of the row is where the variant alone says it
    cdef list rows              # by variant: its row of tables/sshd.py

    cdef int compile(self, object grammar) except -1


cdef class LoginBuilder(LineSink):
    # Configuration, fixed from __cinit__ on
    cdef Meanings _meanings
    cdef object _record         # makes a LoginRecord
    cdef object _end            # makes a LoginEnd
    cdef object _factors        # what is known of logins of several factors
    cdef object _repeat         # (record, count) -> the records beside it that "message repeated" stands for
    cdef object _target
    cdef dict _cells            # method -> place in _cell_counts

    # The line at hand, borrowed from the scanner
    cdef Entry *_entry
    cdef Match *_match
    cdef const Reading *_reading

    # What was made last, and is used again
    cdef int64_t _time_us
    cdef object _time           # … as an int
    cdef int64_t _said_us
    cdef uint8_t _said[20]      # … and its digits, of which there are _said_len
    cdef Py_ssize_t _said_len
    cdef int64_t _logged_us
    cdef int _logged_digits
    cdef str _logged
    cdef list _sources          # of PEER_SLOTS
    cdef PeerKey _peers[PEER_SLOTS]
    cdef list _subjects         # of ACTOR_SLOTS
    cdef ActorKey _actors[ACTOR_SLOTS]
    cdef list _datas            # of DATA_SLOTS
    cdef DataKey _data_keys[DATA_SLOTS]
    cdef Seen _seen[SEEN_SLOTS]
    cdef uint64_t _told[TOLD_SETS][TOLD_WAYS]   # hashes, the latest first; 0: none
    cdef uint8_t _scratch[ID_BYTES_MAX]     # what an id is made from; the namespace stands at its beginning

    cdef list _out

    # Counters, monotonic
    cdef readonly uint64_t logins, failures, notes, ends, children
    cdef uint64_t *_cell_counts

    cdef object _note(self)
    cdef object _tell(self, object kind, object event)
    cdef object _tell_end(self)
    cdef object _tell_child(self)
    cdef int64_t _child_pid(self) noexcept
    cdef str _reason(self)
    cdef Span _peer_text(self) noexcept
    cdef uint64_t _connection(self) noexcept
    cdef uint64_t _process(self) noexcept
    cdef uint64_t *_ways_of(self, uint64_t key) noexcept
    cdef void _tell_once(self, uint64_t key) noexcept
    cdef bint _forget(self, uint64_t key) noexcept
    cdef bint _forget_failures(self) noexcept
    cdef object _login(self)
    cdef object _failure(self)
    cdef int _first_factor(self) except -1
    cdef tuple _peer(self)
    cdef object _event(self, object outcome, str user_id, dict data)
    cdef dict _data(self, bint failed, int32_t *cell)
    cdef dict _new_data(self, bint failed)
    cdef int _add_key(self, dict data) except -1
    cdef int _add_rest(self, dict data) except -1
    cdef str _method(self)
    cdef int32_t _cell_of(self, dict data, bint failed) except -1
    cdef object _source(self)
    cdef object _new_source(self)
    cdef object _subjects_of(self, str user_id)
    cdef object _new_subjects(self, str user_id)
    cdef str _text(self, int field)
    cdef str _logged_at(self)
    cdef str _audit_id(self)
