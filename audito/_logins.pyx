"""Compiled half of logins.py: lines that the scanner knows in, records and events out. See _logins.pxd."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from audito._scan cimport Span, load8, span_of
from audito._sshd cimport (
    FLAG_AMBIGUOUS, FLAG_CUT, FLAG_SESSION, FLAG_TIMED, FLAG_TRUSTED, FLAG_UNESCAPED, REJECT_FORGED, ascii_str, is_plain,
    pid_of, text_of,
)

from msgspec import UNSET as _UNSET

from audito import events

# As C variables: a global that is looked up by name costs 20 to 40 ns, and an event needs ten.
cdef object UNSET = _UNSET
cdef object LoginMetadata = events.LoginMetadata
cdef object Source = events.Source
cdef object SourceExtra = events.SourceExtra
cdef object Subjects = events.Subjects
cdef object UserLogin = events.UserLogin
cdef str UNKNOWN = events.UNKNOWN
cdef str INVALID_USER = "invalid user"

FIELDS = (
    "verb", "invalid", "method", "user", "addr", "host", "port", "pid", "text", "key_type", "fp", "key_id", "serial",
    "ca_type", "ca_fp", "reason", "client_user", "client_host",
)
assert len(FIELDS) == FIELD_COUNT

# What stands in `data` beside the method.
TELLING = FIELDS[FIELD_KEY_TYPE:]

VERBS = {"Accepted": MEANS_LOGIN, "Failed": MEANS_FAILURE, "Partial": MEANS_FACTOR, "Postponed": MEANS_NOTE}

# What the end of a connection is, by its state: sshd told of the name that is no account when it came.
STATES = {"authenticating user": MEANS_GIVEN_UP, "invalid user": MEANS_NOTE, "user": MEANS_END}

# Shared by all events that they are right for.
cdef object NOWHERE = Source("IP", UNKNOWN, SourceExtra(UNKNOWN))
cdef enum:                          # what an event is marked with: the place of its extra among EXTRAS
    NOTE_CUT = 1
    NOTE_UNESCAPED = 2
    NOTE_DOUBTED = 4
    NOTES = 8
cdef tuple EXTRAS = tuple([
    events.LoginExtra(truncated=bool(notes & NOTE_CUT) or UNSET, unescaped=bool(notes & NOTE_UNESCAPED) or UNSET,
                      trust="low" if notes & NOTE_DOUBTED else UNSET)
    for notes in range(NOTES)
])

# Two hexadecimal digits for each byte.
cdef uint8_t HEXES[512]


cdef void fill_hexes() noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef int c
    for c in range(256):
        HEXES[2 * c] = <uint8_t>digits[c >> 4]
        HEXES[2 * c + 1] = <uint8_t>digits[c & 15]


fill_hexes()


cdef str uuid_of(const uint8_t *digest):
    # RFC 9562's text of 16 bytes, as version 8: a hash of our own choice.
    cdef uint8_t raw[16]
    cdef uint8_t out[36]
    cdef uint8_t *p = out
    cdef int i
    memcpy(raw, digest, 16)
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            p[0] = c'-'
            p += 1
        memcpy(p, HEXES + 2 * raw[i], 2)
        p += 2
    return ascii_str(out, 36)


def event_id(data: bytes) -> str:
    """A UUID made from bytes: the same ones give the same."""
    cdef uint8_t digest[16]
    blake2(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), digest)
    return uuid_of(digest)


cdef inline uint64_t hash_of(const uint8_t *p, Py_ssize_t n, uint64_t seed) noexcept nogil:
    # To find a slot by; who chooses the bytes can at most make two peers share one.
    cdef uint64_t h = seed ^ <uint64_t>n * 0x9E3779B97F4A7C15ULL
    cdef uint64_t word = 0
    while n >= 8:
        h = (h ^ load8(p)) * 0xFF51AFD7ED558CCDULL
        h ^= h >> 32
        p += 8
        n -= 8
    if n:
        memcpy(&word, p, <size_t>n)
        h = (h ^ word) * 0xFF51AFD7ED558CCDULL
        h ^= h >> 32
    return h


cdef inline bint is_address(Span host) noexcept nogil:
    # An address, and no name: `::1`, `10.0.0.5`. A name's last label is never a number.
    cdef Py_ssize_t i
    cdef Py_ssize_t last = 0
    for i in range(host.len):
        if host.ptr[i] == c':':
            return True
        if host.ptr[i] == c'.':
            last = i + 1
    for i in range(last, host.len):
        if not c'0' <= host.ptr[i] <= c'9':
            return False
    return last < host.len


cdef inline bint is_unknown(Span s) noexcept nogil:
    # What sshd writes for a connection that is no socket of a known family.
    return s.len == 7 and memcmp(s.ptr, b"UNKNOWN", 7) == 0


cdef class Meanings:

    def __cinit__(self, grammar):
        self.readings = <Reading *>PyMem_Calloc(<size_t>len(grammar.variants) + 1, sizeof(Reading))
        if self.readings is NULL:
            raise MemoryError
        self.compile(grammar)

    def __dealloc__(self):
        PyMem_Free(self.readings)

    cdef int compile(self, object grammar) except -1:
        cdef int32_t number
        cdef int field
        cdef Reading *reading
        self.words = [variant.words for variant in grammar.variants]
        self.rows = [grammar.rows[variant.row] for variant in grammar.variants]
        for number, variant in enumerate(grammar.variants):
            row, names = grammar.rows[variant.row], grammar.fields[variant.row]
            reading = &self.readings[number]
            reading.vis = row.versions != "pam"
            words = dict(zip(names, variant.words, strict=True))
            reading.invalid = words.get("invalid") is not None or row.error == INVALID_USER
            for field, name in enumerate(FIELDS):
                reading.places[field] = names.index(name) if name in names else -1
                if name in TELLING and reading.places[field] >= 0:
                    reading.telling |= <uint32_t>1 << reading.places[field]
            if row.yields == "failure":
                reading.means = MEANS_FAILURE
            elif row.yields == "attempt":
                reading.means = VERBS[words["verb"]]
            elif row.yields == "end":
                reading.means = STATES[words.get("state") or "user"]
                if reading.means == MEANS_GIVEN_UP and reading.places[FIELD_TEXT] >= 0:
                    reading.telling |= <uint32_t>1 << reading.places[FIELD_TEXT]
            elif row.yields == "child":
                reading.means = MEANS_CHILD
        return 0


cdef class LoginBuilder(LineSink):

    def __cinit__(self, Meanings meanings not None, *, record, end, factors, repeat, methods, target, bytes namespace):
        if len(namespace) != 16:
            raise ValueError("namespace is the 16 bytes of a UUID")
        memcpy(self._scratch, PyBytes_AS_STRING(namespace), 16)
        self._record, self._end, self._factors, self._repeat, self._target = record, end, factors, repeat, target
        self._meanings = meanings
        self._cells = {method: number for number, method in enumerate(methods)}
        self._cell_counts = <uint64_t *>PyMem_Calloc(2 * <size_t>len(methods), sizeof(uint64_t))
        if self._cell_counts is NULL:
            raise MemoryError
        self._time_us = self._logged_us = self._said_us = -1
        self._said_len = write_int(self._said, -1)
        self._time = -1
        self._logged_digits = -1
        self._sources = [None] * PEER_SLOTS
        self._subjects = [None] * ACTOR_SLOTS
        self._datas = [None] * DATA_SLOTS
        self._out = []

    def __dealloc__(self):
        PyMem_Free(self._cell_counts)

    # What the scanner gives.

    cdef int take_line(self, Entry *entry, Match *match, uint32_t repeat) except -1:
        cdef const Reading *reading = &self._meanings.readings[match.variant.number]
        self._entry, self._match, self._reading = entry, match, reading
        if entry.flags & FLAG_SESSION:
            if reading.means != MEANS_END or entry.preauth:
                entry.pid = 0
                return REJECT_FORGED
            self._out.append(self._tell_end())
        elif reading.means == MEANS_FAILURE:
            record = self._failure()
            self._out.append(record)
            if not reading.invalid:
                self._tell_once(self._connection() or self._process())
            if repeat:
                more = self._repeat(record, repeat)
                self._out += more
                self.failures += <uint64_t>len(more)
        elif reading.means == MEANS_LOGIN:
            self._out.append(self._login())
        elif reading.means == MEANS_GIVEN_UP and not self._forget_failures():
            self._out.append(self._failure())
        elif reading.means == MEANS_CHILD and self._child_pid():
            self._out.append(self._tell_child())
        elif reading.means == MEANS_END and not entry.preauth:
            self._out.append(self._tell_end())
        else:
            self._out.append(self._note())
            if reading.means == MEANS_FACTOR and entry.pid:
                self._first_factor()
        return 0

    cdef int take_forged(self, Entry *entry) except -1:
        self._entry = entry
        self._out.append(self._note())
        return 0

    def take(self) -> list:
        cdef list out = self._out
        self._out = []
        return out

    def cells(self) -> dict:
        cdef int place
        counts = {}
        for method, place in self._cells.items():
            counts[method, "succeeded"] = self._cell_counts[2 * place]
            counts[method, "failed"] = self._cell_counts[2 * place + 1]
        return counts

    # Records.

    cdef object _note(self):
        self.notes += 1
        return self._tell("note", None)

    cdef object _tell(self, object kind, object event):
        cdef Entry *entry = self._entry
        if entry.time_us != self._time_us:
            self._time = entry.time_us
            self._time_us = entry.time_us
        return self._record(
            kind, entry.pid, self._time, entry.flags & FLAG_TIMED != 0, entry.flags & FLAG_TRUSTED != 0, event
        )

    cdef object _tell_child(self):
        self.children += 1
        record = self._tell("child", None)
        record.child_pid = self._child_pid()
        return record

    cdef object _tell_end(self):
        cdef str addr = self._text(FIELD_ADDR)
        self.ends += 1
        record = self._tell("end", None)
        if self._child_pid():
            record.pid = self._child_pid()  # the listener wrote it
        record.end = self._end(
            self._text(FIELD_USER), None if addr == "UNKNOWN" else addr, self._text(FIELD_PORT), self._reason() or None)
        if self._entry.flags & FLAG_SESSION:
            record.end.session = record.pid
            record.pid = 0
        return record

    cdef int64_t _child_pid(self) noexcept:
        # The process that the line tells of, 0 for none, and where nobody knows who wrote the line.
        cdef int8_t place = self._reading.places[FIELD_PID]
        if self._entry.flags & FLAG_UNESCAPED and not self._entry.flags & FLAG_TRUSTED:
            return 0
        return pid_of(self._match.spans[place]) if place >= 0 and self._match.read >> place & 1 else 0

    cdef str _reason(self):
        # Why a connection ended.
        return self._text(FIELD_REASON) or self._meanings.rows[self._match.variant.number].reason or self._text(FIELD_TEXT)

    cdef object _login(self):
        cdef str user_id = self._text(FIELD_KEY_ID)
        cdef dict data = None
        cdef int32_t cell = 0
        self.logins += 1
        self._forget_failures()
        if not user_id:
            user_id = UNKNOWN
        if len(self._factors):
            key = {}
            self._add_key(key)
            found = self._factors.join(self._entry.pid, self._peer(), self._method(), user_id, key)
            if found is not None:
                user_id, data = found
                self._add_rest(data)
                cell = self._cell_of(data, False)
        if data is None:
            data = self._data(False, &cell)
        self._cell_counts[cell] += 1
        return self._tell("login", self._event("succeeded", user_id, data))

    cdef object _failure(self):
        cdef int32_t cell = 0
        cdef dict data = self._data(True, &cell)
        self.failures += 1
        self._cell_counts[cell] += 1
        return self._tell("failure", self._event("failed", UNKNOWN, data))

    cdef int _first_factor(self) except -1:
        key = {}
        self._add_key(key)
        self._factors.add(
            self._entry.pid, self._peer(), self._method(), self._text(FIELD_KEY_ID) or UNKNOWN, key)
        return 0

    cdef tuple _peer(self):
        # What two lines of one login have in common.
        return self._text(FIELD_USER), self._text(FIELD_ADDR), self._text(FIELD_PORT)

    # Events.

    cdef object _event(self, object outcome, str user_id, dict data):
        cdef str audit_id = self._audit_id()
        cdef int notes = 0
        if self._match.flags & FLAG_CUT:
            notes |= NOTE_CUT
        if self._entry.flags & FLAG_UNESCAPED:
            notes |= NOTE_UNESCAPED
        if not self._entry.flags & FLAG_TRUSTED:
            notes |= NOTE_DOUBTED
        metadata = LoginMetadata(audit_id, EXTRAS[notes]) if notes else LoginMetadata(audit_id)
        return UserLogin(
            metadata, "UserLogin", self._logged_at(), self._source(), outcome, self._subjects_of(user_id), "sshd",
            self._target, data)

    cdef dict _data(self, bint failed, int32_t *cell):
        # What is said of most attempts differs in row and method alone.
        cdef Match *match = self._match
        cdef int8_t place = self._reading.places[FIELD_METHOD]
        cdef Span method = span_of(self._scratch, 0)
        cdef DataKey *key
        cdef dict data
        cdef uint32_t slot
        if place >= 0 and match.read >> place & 1:
            method = match.spans[place]
        if match.read & self._reading.telling or match.flags & FLAG_AMBIGUOUS or method.len > METHOD_BYTES_MAX:
            data = self._new_data(failed)
            cell[0] = self._cell_of(data, failed)
            return data
        slot = <uint32_t>hash_of(method.ptr, method.len, <uint64_t>match.variant.number) & (DATA_SLOTS - 1)
        key = &self._data_keys[slot]
        if not (key.variant == match.variant.number + 1 and key.len == method.len
                and memcmp(key.method, method.ptr, <size_t>method.len) == 0):
            data = self._new_data(failed)
            key.cell = self._cell_of(data, failed)
            self._datas[slot] = data
            key.variant = match.variant.number + 1
            key.len = <uint8_t>method.len
            memcpy(key.method, method.ptr, <size_t>method.len)
        cell[0] = key.cell
        return <dict>self._datas[slot]

    cdef dict _new_data(self, bint failed):
        cdef dict data = {}
        if not failed:
            self._add_key(data)
        else:
            row = self._meanings.rows[self._match.variant.number]
            key_id = self._text(FIELD_KEY_ID)
            if key_id is not None or self._text(FIELD_KEY_TYPE) is not None:
                self._add_key(data)
            if key_id is not None:
                data["KeyID"] = key_id  # not userID: nobody has proved to be that
            data["error"] = INVALID_USER if self._reading.invalid else row.error
            reason = self._reason() if self._reading.means == MEANS_GIVEN_UP else self._text(FIELD_REASON) or row.reason
            if reason:
                data["reason"] = reason
        self._add_rest(data)
        return data

    cdef int _add_rest(self, dict data) except -1:
        # What every attempt's data has, and what few have.
        data["method"] = self._method()
        if self._match.flags & FLAG_AMBIGUOUS:
            data["ambiguous"] = "true"  # reads in two ways: what stood in doubt is left out
        client = self._text(FIELD_CLIENT_USER)
        if client is not None:
            data["clientUser"] = client
        client = self._text(FIELD_CLIENT_HOST)
        if client is not None:
            data["clientHost"] = client
        return 0

    cdef int _add_key(self, dict data) except -1:
        # The key or certificate, in the Go daemon's form: Alg is type and hash, SSHKeySum the digest without it.
        cdef str key_type = self._text(FIELD_KEY_TYPE)
        cdef str ca_type = self._text(FIELD_CA_TYPE)
        cdef str serial = self._text(FIELD_SERIAL)
        cdef str hash_name, colon, digest
        cdef str fp = self._text(FIELD_FP) or ""
        hash_name, colon, digest = fp.partition(":")
        if len(hash_name) == 2:  # up to 6.7 MD5 has no name: aa:bb:…
            hash_name, digest = "MD5", fp
        if key_type is not None:
            data["Alg"] = f"{key_type} {hash_name}" if colon else key_type  # "(null)" is no fingerprint
        if ca_type is not None:
            data["CA"] = f"CA {ca_type} {self._text(FIELD_CA_FP)}"
        if colon:
            data["SSHKeySum"] = digest
        if serial is not None:
            data["Serial"] = serial
        return 0

    cdef str _method(self):
        return self._text(FIELD_METHOD) or self._meanings.rows[self._match.variant.number].method or UNKNOWN

    cdef int32_t _cell_of(self, dict data, bint failed) except -1:
        method = "certificate" if "CA" in data else (<str>data["method"]).partition("/")[0]
        return 2 * <int32_t>self._cells.get(method, self._cells[UNKNOWN]) + failed

    # Who and where from, which sshd says several times of one attempt.

    cdef Span _peer_text(self) noexcept:
        # `ADDR port PORT` as it stands in the line, len 0 where the line does not say both.
        cdef Match *match = self._match
        cdef int8_t addr = self._reading.places[FIELD_ADDR]
        cdef int8_t port = self._reading.places[FIELD_PORT]
        cdef const uint8_t *end
        if addr < 0 or port < 0 or not (match.read >> addr & 1 and match.read >> port & 1):
            return span_of(self._scratch, 0)
        end = match.spans[port].ptr + match.spans[port].len
        if end <= match.spans[addr].ptr or is_unknown(match.spans[addr]):
            return span_of(self._scratch, 0)
        return span_of(match.spans[addr].ptr, end - match.spans[addr].ptr)

    cdef object _source(self):
        cdef Span text = self._peer_text()
        cdef PeerKey *key
        cdef uint64_t hash
        cdef uint32_t slot
        if not text.len or text.len > PEER_BYTES_MAX:
            return self._new_source()
        hash = hash_of(text.ptr, text.len, 0)
        slot = hash & (PEER_SLOTS - 1)
        key = &self._peers[slot]
        if key.hash != hash or key.len != text.len or memcmp(key.text, text.ptr, <size_t>text.len) != 0:
            self._sources[slot] = self._new_source()
            key.hash = hash
            key.len = <uint8_t>text.len
            memcpy(key.text, text.ptr, <size_t>text.len)
        return self._sources[slot]

    cdef object _new_source(self):
        cdef int8_t place = self._reading.places[FIELD_ADDR]
        cdef str host
        cdef bytes raw
        if place >= 0 and self._match.read >> place & 1 and not is_unknown(self._match.spans[place]):
            return Source("IP", self._text(FIELD_ADDR), SourceExtra(self._text(FIELD_PORT) or UNKNOWN))
        host = self._text(FIELD_HOST)
        if host is None or host == "UNKNOWN":
            return NOWHERE
        raw = host.encode()
        kind = "IP" if is_address(span_of(<const uint8_t *>PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))) else "DNS"
        return Source(kind, host, SourceExtra(self._text(FIELD_PORT) or UNKNOWN))

    cdef object _subjects_of(self, str user_id):
        cdef int8_t place = self._reading.places[FIELD_USER]
        cdef int64_t pid = self._entry.pid
        cdef Span user
        cdef ActorKey *key
        cdef uint64_t hash
        cdef uint32_t slot
        if user_id is not UNKNOWN or place < 0 or not self._match.read >> place & 1:
            return self._new_subjects(user_id)
        user = self._match.spans[place]
        if user.len > ACTOR_BYTES_MAX or not is_plain(user, self._entry.rsyslog):
            return self._new_subjects(user_id)
        hash = hash_of(user.ptr, user.len, <uint64_t>pid)
        slot = hash & (ACTOR_SLOTS - 1)
        key = &self._actors[slot]
        if (key.hash != hash or key.pid != pid or key.len != user.len
                or memcmp(key.text, user.ptr, <size_t>user.len) != 0 or self._subjects[slot] is None):
            self._subjects[slot] = self._new_subjects(user_id)
            key.hash = hash
            key.pid = pid
            key.len = <uint8_t>user.len
            memcpy(key.text, user.ptr, <size_t>user.len)
        return self._subjects[slot]

    cdef object _new_subjects(self, str user_id):
        cdef uint8_t digits[20]
        cdef object pid = UNSET
        cdef str user = self._text(FIELD_USER)
        if user is None:
            user = self._meanings.rows[self._match.variant.number].user or UNKNOWN
        if self._entry.pid:
            pid = ascii_str(digits, write_int(digits, self._entry.pid))
        return Subjects(loggedAs=user, pid=pid, userID=user_id)

    # One attempt is one failure: sshd ends a connection with a line that names the user, and at its usual log level that
    # is the only one that tells of a key refused; where there was one before, the end is no second failure.

    cdef uint64_t _connection(self) noexcept:
        # What the lines of one connection have in common, 0 where this one does not say. 63 bits: JSON can say them.
        cdef Span text = self._peer_text()
        return hash_of(text.ptr, text.len, 0) >> 1 | 1 if text.len else 0

    cdef uint64_t _process(self) noexcept:
        # Less than that, for lines that name no peer.
        cdef int64_t pid = self._entry.pid
        return hash_of(<const uint8_t *>&pid, sizeof(pid), 1) >> 1 | 1 if pid else 0

    cdef uint64_t *_ways_of(self, uint64_t key) noexcept:
        return &self._told[(key >> 32) & (TOLD_SETS - 1)][0]

    cdef void _tell_once(self, uint64_t key) noexcept:
        # A failure of this connection was told.
        cdef uint64_t *ways = self._ways_of(key)
        self._forget(key)
        if key:
            memmove(ways + 1, ways, (TOLD_WAYS - 1) * sizeof(uint64_t))
            ways[0] = key

    cdef bint _forget(self, uint64_t key) noexcept:
        # Whether it was told; after this it is not.
        cdef uint64_t *ways = self._ways_of(key)
        cdef int i
        for i in range(TOLD_WAYS):
            if key and ways[i] == key:
                memmove(ways + i, ways + i + 1, <size_t>(TOLD_WAYS - 1 - i) * sizeof(uint64_t))
                ways[TOLD_WAYS - 1] = 0
                return True
        return False

    cdef bint _forget_failures(self) noexcept:
        # The connection is over, or its user was let in: whether a failure of it was told.
        cdef bint of_peer = self._forget(self._connection())
        return self._forget(self._process()) or of_peer

    def told(self) -> list:
        cdef int i, j
        keys = []
        for i in range(TOLD_SETS):
            for j in range(TOLD_WAYS - 1, -1, -1):
                if self._told[i][j]:
                    keys.append(self._told[i][j])
        return keys

    def load_told(self, keys) -> None:
        for key in keys:
            self._tell_once(key)

    # Text.

    cdef str _text(self, int field):
        # What a field says, None where it does not.
        cdef int8_t place = self._reading.places[field]
        if place < 0:
            return None
        if self._match.read >> place & 1:
            return text_of(self._match.spans[place], self._entry, self._reading.vis)
        return (<tuple>self._meanings.words[self._match.variant.number])[place]

    cdef str _logged_at(self):
        # RFC 3339, UTC, with as many digits as the source gave. A batch of lines without times has one time.
        cdef uint8_t out[40]
        cdef Entry *entry = self._entry
        cdef Py_ssize_t n
        if entry.time_us != self._logged_us or entry.digits != self._logged_digits:
            n = write_time(out, entry.time_us, entry.digits)
            self._logged = ascii_str(out, n)
            self._logged_us = entry.time_us
            self._logged_digits = entry.digits
        return self._logged

    cdef str _audit_id(self):
        # Of the namespace and "PID TIME_US MESSAGE", with " #N" behind it from the second equal line of a moment on.
        cdef Entry *entry = self._entry
        cdef uint8_t digest[16]
        cdef uint64_t key
        cdef Seen *seen
        cdef uint8_t *p = self._scratch
        cdef Py_ssize_t n = 16
        if entry.time_us != self._said_us:
            self._said_len = write_int(self._said, entry.time_us)
            self._said_us = entry.time_us
        n += write_int(p + n, entry.pid)
        p[n] = c' '
        memcpy(p + n + 1, self._said, sizeof(self._said))
        n += 1 + self._said_len
        p[n] = c' '
        n += 1
        memcpy(p + n, entry.message.ptr, <size_t>entry.message.len)
        n += entry.message.len
        blake2(p, n, digest)
        memcpy(&key, digest, 8)
        seen = &self._seen[key & (SEEN_SLOTS - 1)]
        if seen.hash == key:
            seen.count += 1
            p[n] = c' '
            p[n + 1] = c'#'
            n += 2 + write_int(p + n + 2, seen.count)
            blake2(p, n, digest)
        else:
            seen.hash = key
            seen.count = 1
        return uuid_of(digest)
