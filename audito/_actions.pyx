"""Compiled writer of UserActions: a whole audit event in, a line of JSON out. See _actions.pxd."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr
from libc.time cimport gmtime_r, time_t, tm

from audito._fastparse cimport TYPE_SYSCALL, TYPE_USER_START
from audito._fields cimport (
    F_ADDED_EUID, F_ADDED_UID, F_AUID, F_CWD, F_EUID, F_EXE, F_EXIT, F_KEY, F_PID, F_PPID, F_UID, NO_INT, TYPE_USER_CMD,
    is_upper_hex, same_text, says_nothing, signed_int, stripped,
)
from audito._normalise cimport WORD_BYTES_MAX, Facts, Field, FieldNames, Meaning, Reader, Rules, field_names
from audito._processes cimport Lineage, Process, Processes
from audito._put cimport KEY_BYTES_MAX, NUMBER_BYTES_MAX, Key, key_of, put, put_key, put_number, put_plain, put_span
from audito._redact cimport CONTEXT, HARMLESS
from audito._scan cimport Span, span_int, span_is, span_of, unquoted
from audito._sessions cimport Event, Identity, Session, identity_source, identity_subjects

from msgspec import json

from audito import events
from audito.tables.programs import PRIVILEGE_PROGRAMS

# What stands before a value in an events.ActionExtra, in its order, and in an events.Context.
cdef Key KEY_ACTION = key_of(b'{"action":')
cdef Key KEY_HOW = key_of(b',"how":')
cdef Key KEY_OBJECT = key_of(b',"object":')
cdef Key KEY_TYPE = key_of(b',"type":')
cdef Key KEY_PRIMARY = key_of(b',"primary":')
cdef Key KEY_SECONDARY = key_of(b',"secondary":')
cdef Key KEY_PROCESS_ARGS = key_of(b',"process_args":')
cdef Key KEY_ARGS_INCOMPLETE = key_of(b',"args_incomplete":')
cdef Key KEY_SEQUENCE = key_of(b',"sequence":')
cdef Key KEY_PID = key_of(b',"pid":')
cdef Key KEY_PPID = key_of(b',"ppid":')
cdef Key KEY_CWD = key_of(b',"cwd":')
cdef Key KEY_EXE = key_of(b',"exe":')
cdef Key KEY_KEY = key_of(b',"key":')
cdef Key KEY_EXIT = key_of(b',"exit":')
cdef Key KEY_USER = key_of(b',"user":')
cdef Key KEY_UID = key_of(b',"uid":')
cdef Key KEY_EUID = key_of(b',"euid":')
cdef Key KEY_BY = key_of(b',"privilege":{"by":')
cdef Key KEY_COMMAND = key_of(b',"command":')
cdef Key KEY_TTY = key_of(b',"tty":')
cdef Key KEY_ARG = key_of(b',')
cdef Key AFTER_LOGOUT = key_of(b',"afterLogout":true')

cdef object encoder = json.Encoder()
cdef object encode_lines = encoder.encode_lines
cdef object read_extra = json.Decoder(events.ActionExtra).decode

cdef extern from "Python.h":
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    unsigned int PyUnicode_IS_ASCII(object text)
    char *PyBytes_AS_STRING(PyObject *bytes) nogil
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    void Py_SET_SIZE(object bytes, Py_ssize_t size)


cdef inline bint is_one_of(Span text, FieldNames *names) noexcept nogil:
    cdef int i
    for i in range(names.count):
        if span_is(text, <const char *>names.name[i].ptr, names.name[i].len):
            return True
    return False


@cython.final
cdef class ActionBuilder(Reader):

    def __cinit__(self, Rules rules, target, *, bint actions=True, context=events.CONTEXT, container_of=None, redactor=None,
                  filters=None):
        cdef int i
        self.container_of = container_of
        self.want(actions=actions, context=context, redactor=redactor, filters=filters)
        self.encode_into = encoder.encode_into
        self.encoded = bytearray()
        self.structs = []
        self.room_next = LINES_BYTES_MIN
        self.frame = list(events.action_frame(target))
        if len(self.frame) != FRAME_PARTS:
            raise ValueError(f"a UserAction's frame of {len(self.frame)} parts")
        for i in range(FRAME_PARTS):
            self.frame_parts[i] = span_of(<const uint8_t *><const char *>(<bytes>self.frame[i]), len(self.frame[i]))
        if len(events.CORRELATIONS) != CORRELATIONS:
            raise ValueError(f"{len(events.CORRELATIONS)} correlations")
        for i in range(CORRELATIONS):
            self.correlations[i] = key_of(f',"correlation":"{events.CORRELATIONS[i]}"'.encode())
        self.privileged = field_names(PRIVILEGE_PROGRAMS, self.frame)
        self.second = <uint64_t>-1

    def __dealloc__(self):
        Py_XDECREF(self.lines)

    def want(self, *, bint actions, context, redactor, filters):
        cdef int i
        self.want_actions = actions
        self.redactor = redactor
        self.finder = None if redactor is None else redactor.finder
        self.forget_words()
        self.filters = filters
        for i in range(FILTER_FIELDS):
            self.filter_asks[i] = filters is not None and filters.asks[i]
        self.want_tty = "tty" in context
        self.want_parent = "parent" in context
        self.want_ancestors = "ancestors" in context
        self.want_container = "container" in context
        self.want_context = len(context) > 0
        if not (self.want_parent or self.want_ancestors or (self.want_container and self.container_of is not None)):
            self.processes = None
            return
        if self.processes is None:
            self.processes = Processes()
        self.processes.container_of = self.container_of if self.want_container else None

    def dump_processes(self):
        return [] if self.processes is None else self.processes.dump()

    def load_processes(self, rows):
        if self.processes is not None:
            self.processes.load(rows)

    def write(self, event):
        self.structs.append(event)

    def take(self):
        cdef PyObject *lines
        cdef size_t used
        cdef size_t room
        cdef bytes taken
        if self.structs:
            if self.used == 0:              # nothing to stand behind: no copy
                taken = encode_lines(self.structs)
                self.structs.clear()
                return taken
            self.write_structs()
        if self.used == 0:
            return b""
        used = self.used
        room = self.room
        lines = self.lines
        self.lines = NULL
        self.used = self.room = 0
        self.room_next = min(max(used + used // 4, <size_t>LINES_BYTES_MIN), <size_t>LINES_BYTES_KEPT)
        if used < room // 2:
            _PyBytes_Resize(&lines, <Py_ssize_t>used)
        else:
            # Cut short where it is: given back as large as it was taken, memory of the next size is malloc's to keep.
            # Resized it was mapped and unmapped each time, which was 3 % of the daemon's CPU time in page faults.
            Py_SET_SIZE(<object>lines, <Py_ssize_t>used)
            PyBytes_AS_STRING(lines)[used] = 0
        taken = <bytes>lines
        Py_DECREF(taken)
        return taken

    # ------------------------------------------------------------------------------ events

    cdef int take_event(self, Event *event, Session *session) except -1:
        if session.identity is NULL:
            raise RuntimeError(f"the session in slot {event.session} is bound and has no identity")
        self.danger = HARMLESS
        self.read(event)
        self.facts.pid = span_int(self.facts.known[F_PID])
        self.facts.ppid = span_int(self.facts.known[F_PPID])
        if self.processes is not None:
            self.processes.prefetch(self.facts.pid)
            self.processes.prefetch(self.facts.ppid)
        self.mean()
        if self.processes is not None:
            self.processes.prefetch_objects(self.facts.pid)
            self.processes.prefetch_objects(self.facts.ppid)
        session.actions += 1
        if self.facts.has_argv:
            session.commands += 1
        if self.failed():
            session.failures += 1
        if self.want_actions:
            if self.filters is None or not self.is_dropped(session):
                self.write_action(event, session)
            else:
                self.process(event)         # those of dropped actions have children, too
        return 0

    cdef bint failed(self):
        # An event without a result (keystrokes, a loaded module) did happen; a denied AVC did not.
        if self.meaning.result is None:
            return span_is(self.facts.avc_result, b"denied", 6)
        return self.meaning.result is not "success"

    cdef bint is_dropped(self, Session *session) except -1:
        # Whether a filter drops the action. What no filter asks for is not made.
        cdef Meaning m = self.meaning
        cdef Identity *identity = session.identity
        cdef bint *asks = self.filter_asks
        return self.filters.drops(
            m.action, m.object_type, m.primary, self.exe_text() if asks[0] else None,
            self.known_text(F_KEY) if asks[1] else None,
            self.known_text(F_UID) if asks[2] else None, self.known_text(F_ADDED_UID) if asks[2] else None,
            identity_subjects(identity)[:identity.subjects_len] if asks[3] else None)

    cdef Process *process(self, Event *event) except? NULL:
        # The row of the process that acted, NULL where nobody asks or the event names none. Only the kernel's own
        # record tells the parent: what a message says of one is any program's text.
        cdef Facts *f = &self.facts
        cdef int64_t ppid = f.ppid if f.main.type == TYPE_SYSCALL else 0
        if self.processes is None or not 0 < f.pid < 0x7FFFFFFF:
            return NULL
        return self.processes.meet(event.session, event.generation, <int32_t>f.pid,
                                   <int32_t>ppid if 0 < ppid < 0x7FFFFFFF else 0, self.exe_text(), event.ts_ms)

    # ------------------------------------------------------------------------------ the line

    cdef int write_action(self, Event *event, Session *session) except -1:
        # A UserAction's line. Most of it is constant, or was when the session got its identity, and is copied: so there
        # is no object a session, which would have to come from memory (of 100,000 sessions: 900 ns an event).
        cdef bint failed = self.failed()
        cdef Identity *identity = session.identity
        cdef Span *part = self.frame_parts
        cdef size_t constant = NUMBER_BYTES_MAX + TIME_TEXT_BYTES + sizeof("succeeded")
        cdef size_t start = self.used
        cdef size_t extra
        cdef Process *process
        cdef uint8_t *p
        cdef int i
        if self.structs:
            self.write_structs()
            start = self.used
        for i in range(FRAME_PARTS):
            constant += <size_t>part[i].len
        try:
            p = self.line_room(constant)
            p = put_span(p, part[0])
            p = put_number(p, session.ses)
            extra = self.used = <size_t>(put_span(p, part[1]) - self.at(0))
            self.write_extra(event, session, failed)
            if self.danger:
                self.hide_secrets(extra)
            process = self.process(event)   # as late as that: its row is here by now
            if self.want_context:
                self.write_context(process)
            p = self.line_room(constant + identity.source_len + identity.subjects_len)
        except BaseException:
            self.used = start
            raise
        p = put_span(p, part[2])
        p = put(p, self.time_text(event.ts_ms), TIME_TEXT_BYTES)
        p = put_span(p, part[3])
        p = put(p, identity_source(identity), identity.source_len)
        p = put_span(p, part[4])
        p = put(p, b"failed", 6) if failed else put(p, b"succeeded", 9)
        p = put_span(p, part[5])
        p = put(p, identity_subjects(identity), identity.subjects_len)
        self.used = <size_t>(put_span(p, part[6]) - self.at(0))
        return 0

    cdef int write_extra(self, Event *event, Session *session, bint failed) except -1:
        # An events.ActionExtra as msgspec writes it, field by field. A struct and its encoding were two fifths of what
        # an event costs (24 of 60 million instructions for 3,000 of them).
        cdef Meaning m = self.meaning
        cdef Facts *f = &self.facts
        cdef int64_t exit_code = signed_int(f.known[F_EXIT])
        self.put_text(&KEY_ACTION, m.action)
        self.put_text(&KEY_HOW, m.how)
        self.write_object(m)
        self.write_args(failed)
        self.put_int(&KEY_SEQUENCE, event.seq)
        if f.pid >= 0:
            self.put_int(&KEY_PID, f.pid)
        if f.ppid >= 0:
            self.put_int(&KEY_PPID, f.ppid)
        if f.known[F_CWD].ptr is not NULL:
            self.put_known(&KEY_CWD, F_CWD)
        if self.exe_text() is not None:
            self.put_text(&KEY_EXE, self.exe)
        self.write_rule_key()
        if exit_code != NO_INT:
            self.put_int(&KEY_EXIT, exit_code)
        self.write_user()
        self.write_privilege()
        self.put_key(&self.correlations[session.correlation])
        if self.is_after_logout(event, session):
            self.put_key(&AFTER_LOGOUT)
        self.put_byte(c'}')
        return 0

    cdef int write_object(self, Meaning meaning) except -1:
        cdef size_t at
        self.put_key(&KEY_OBJECT)
        at = self.used
        if meaning.object_type is not None:
            self.put_text(&KEY_TYPE, meaning.object_type)
        if meaning.primary is not None:
            self.put_text(&KEY_PRIMARY, meaning.primary)
        if meaning.secondary is not None:
            self.put_text(&KEY_SECONDARY, meaning.secondary)
        self.begin(at, c'{')
        return self.put_byte(c'}')

    cdef int write_args(self, bint failed) except -1:
        cdef int64_t argc = -1              # a program was executed and its EXECVE record did not come
        cdef bint whole = False
        cdef size_t at
        if self.facts.has_argv:
            self.put_key(&KEY_PROCESS_ARGS)
            at = self.used
            self.read_argv(&argc, &whole)
            self.begin(at, c'[')
            self.put_byte(c']')
        elif failed or self.meaning.action != "executed":
            return 0
        if not whole:
            self.put_int(&KEY_ARGS_INCOMPLETE, argc)
            self.args_incomplete += 1
        return 0

    cdef int take_arg(self, const uint8_t *p, Py_ssize_t len) except -1:
        return self.put_value(&KEY_ARG, p, len)

    cdef int write_rule_key(self) except -1:
        # The audit rule's key; several of one event are parted by 0x01, which makes the kernel write hex.
        cdef Span raw = self.facts.known[F_KEY]
        if raw.ptr is NULL:
            return 0
        if memchr(raw.ptr, 1, <size_t>raw.len) is NULL and not is_upper_hex(raw):
            return self.put_known(&KEY_KEY, F_KEY)
        return self.put_text(&KEY_KEY, self.known_text(F_KEY).replace("\x01", ","))

    cdef int write_user(self) except -1:
        # Who acted, where it is not the login's own user: names where auditd added them, else numbers.
        cdef Facts *f = &self.facts
        cdef Span auid = f.known[F_AUID]
        cdef size_t start = self.used
        cdef size_t at
        if auid.ptr is NULL:
            return 0
        self.put_key(&KEY_USER)
        at = self.used
        if f.known[F_UID].ptr is not NULL and not same_text(f.known[F_UID], auid):
            self.put_text(&KEY_UID, self.known_text(F_ADDED_UID) or self.known_text(F_UID))
        if f.known[F_EUID].ptr is not NULL and not same_text(f.known[F_EUID], auid):
            self.put_text(&KEY_EUID, self.known_text(F_ADDED_EUID) or self.known_text(F_EUID))
        if self.used == at:
            self.used = start
            return 0
        self.begin(at, c'{')
        return self.put_byte(c'}')

    cdef int write_privilege(self) except -1:
        # Who becomes somebody else: by a program that does that, or its message. Of an execve process_args says more.
        cdef Facts *f = &self.facts
        cdef Span exe = stripped(f.known[F_EXE])
        cdef Py_ssize_t i = exe.len
        if not f.has_argv and f.type != TYPE_USER_CMD and f.type != TYPE_USER_START:
            return 0
        while i and exe.len - i <= PRIVILEGE_NAME_MAX and exe.ptr[i - 1] != c'/':
            i -= 1
        exe = span_of(exe.ptr + i, exe.len - i)
        if not is_one_of(exe, &self.privileged):
            return 0
        self.put_value(&KEY_BY, exe.ptr, exe.len)
        if f.type == TYPE_USER_CMD:
            self.put_field(&KEY_COMMAND, b"cmd", 3)
        elif f.type == TYPE_USER_START:
            self.put_field(&KEY_USER, b"acct", 4)
        return self.put_byte(c'}')

    cdef bint is_after_logout(self, Event *event, Session *session) noexcept:
        # What was left running when sshd ended the session. sshd's own last messages are none of it.
        if not session.ended or event.ts_ms < session.end_ms:
            return False
        # Serials wrap: one that is up to half the range ahead is a later one.
        if event.ts_ms == session.end_ms and event.seq - session.end_seq - 1 >= 0x7FFFFFFFu:
            return False
        return self.facts.pid != session.pid

    cdef int write_context(self, Process *process) except -1:
        # Put the fields of events.Context behind those of the extra that was just written: they are constant for a
        # process, and copied.
        cdef Span tty = self.tty() if self.want_tty else span_of(NULL, 0)
        self.used -= 1                      # the extra's closing brace
        if tty.len:
            self.put_value(&KEY_TTY, tty.ptr, tty.len)
        if process is not NULL:
            if process.above is not NULL:
                if self.want_parent:
                    self.put_part((<Lineage>process.above).parent)
                if self.want_ancestors:
                    self.put_part((<Lineage>process.above).ancestors)
            if process.container is not NULL and self.want_container:
                self.put_raw(<const char *>(<bytes>process.container), <size_t>len(<bytes>process.container))
        return self.put_byte(c'}')

    cdef Span tty(self) noexcept:
        # The terminal as the kernel names it (pts0), or as a program does in its message (pts/0, ssh); len 0: none.
        cdef Span name = self.facts.tty
        cdef Field *field
        if name.ptr is NULL:
            field = self.find(span_of(<const uint8_t *>b"terminal", 8))
            if field is NULL:
                field = self.find(span_of(<const uint8_t *>b"tty", 3))
            if field is NULL:
                return name
            name = field.value
        return span_of(NULL, 0) if says_nothing(name) or span_is(name, b"(none)", 6) else name

    cdef int hide_secrets(self, size_t start) except -1:
        # A text of the extra that begins there may have a secret in it: it is read again, and written as the redactor
        # leaves it.
        extra = read_extra(PyBytes_FromStringAndSize(<const char *>self.at(start), <Py_ssize_t>(self.used - start)))
        if self.danger == CONTEXT and not (extra.process_args and self.finder.holds(extra.process_args)):
            return 0
        self.redactor.redact(extra)
        self.used = start
        return self.encode(extra)

    # ------------------------------------------------------------------------------ bytes

    cdef int write_structs(self) except -1:
        # The other events that were given since the last line.
        cdef bytes lines = encode_lines(self.structs)
        self.put_raw(<const char *>lines, <size_t>len(lines))
        self.structs.clear()
        return 0

    cdef inline uint8_t *line_room(self, size_t more) except NULL:
        # Where the next bytes go, with so much room behind it.
        if self.used + more > self.room:
            self.grow(more)
        return self.at(self.used)

    cdef inline uint8_t *at(self, size_t offset) noexcept nogil:
        return <uint8_t *>PyBytes_AS_STRING(self.lines) + offset

    cdef int grow(self, size_t more) except -1:
        # The lines stand in a bytes object, which take() gives away: no second copy of megabytes.
        cdef size_t room = max(self.room, self.room_next)
        cdef bytes grown
        while room < self.used + more:
            room *= 2
        grown = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room)
        if self.used:
            put(<uint8_t *>PyBytes_AS_STRING(<PyObject *>grown), self.at(0), self.used)
        Py_XDECREF(self.lines)
        Py_INCREF(grown)
        self.lines = <PyObject *>grown
        self.room = room
        return 0

    cdef inline int put_raw(self, const char *text, size_t len) except -1:
        put(self.line_room(len), text, len)
        self.used += len
        return 0

    cdef inline int put_key(self, const Key *key) except -1:
        self.used = <size_t>(put_key(self.line_room(KEY_BYTES_MAX), key) - self.at(0))
        return 0

    cdef inline int put_byte(self, uint8_t byte) except -1:
        self.line_room(1)[0] = byte
        self.used += 1
        return 0

    cdef inline int put_part(self, Span text) except -1:
        return self.put_raw(<const char *>text.ptr, <size_t>text.len)

    cdef inline int begin(self, size_t at, uint8_t bracket) except -1:
        # Of what was written from there on the first comma becomes the bracket; of nothing there is just that.
        if self.used == at:
            self.line_room(1)
            self.used += 1
        self.at(at)[0] = bracket
        return 0

    cdef inline int put_int(self, const Key *key, int64_t value) except -1:
        cdef uint8_t *p = put_key(self.line_room(KEY_BYTES_MAX + 1 + NUMBER_BYTES_MAX), key)
        if value < 0:
            p = put_number(put(p, b"-", 1), <uint64_t>-value)
        else:
            p = put_number(p, <uint64_t>value)
        self.used = <size_t>(p - self.at(0))
        return 0

    cdef int put_text(self, const Key *key, str text) except -1:
        # A key and a text. What is not plain msgspec writes.
        cdef Py_ssize_t len = PyUnicode_GET_LENGTH(text)
        cdef uint8_t *p = put_key(self.line_room(KEY_BYTES_MAX + <size_t>len + 2), key)
        if PyUnicode_IS_ASCII(text) and put_plain(p, <const uint8_t *>PyUnicode_DATA(text), len):
            self.used += key.len + <size_t>len + 2
            return 0
        self.used += key.len
        return self.encode(text)

    cdef int put_value(self, const Key *key, const uint8_t *p, Py_ssize_t len) except -1:
        # A key and the text of these bytes, as plain() makes it. One that is plain, and a word or too long for one, needs
        # no object.
        if self.word(p, len) is NULL:
            if len <= WORD_BYTES_MAX:
                return self.put_text(key, self.plain(p, len))
            if self.finder is not None:
                self.danger |= self.danger_of(p, len)
        if not put_plain(put_key(self.line_room(KEY_BYTES_MAX + <size_t>len + 2), key), p, len):
            return self.put_text(key, self.plain(p, len))
        self.used += key.len + <size_t>len + 2
        return 0

    cdef int put_known(self, const Key *key, int field) except -1:
        # A key and the text of a known field, which is there.
        cdef Span raw = self.facts.known[field]
        cdef Span text = unquoted(raw)
        if text.len != raw.len:
            return self.put_value(key, text.ptr, text.len)
        return self.put_text(key, self.known_text(field))

    cdef int put_field(self, const Key *key, const char *name, Py_ssize_t len) except -1:
        # A key and the text of the event's field of this name, where it has one.
        cdef Field *field = self.find(span_of(<const uint8_t *>name, len))
        return 0 if field is NULL else self.put_text(key, self.field_text(field))

    cdef int encode(self, object value) except -1:
        # Write what msgspec makes of a value behind what there is. Not by msgspec at an offset: it ends its bytearray
        # where it ends itself, and CPython gives the memory of one that is less than half full back to the kernel, each
        # time (two calls of mremap, and the pages anew: 430,000 events a second became 100,000).
        self.encode_into(value, self.encoded)
        return self.put_raw(<const char *>self.encoded, <size_t>len(self.encoded))

    cdef const char *time_text(self, uint64_t ts_ms) noexcept nogil:
        # RFC 3339 with milliseconds, which is what the kernel stamps; valid until the next call.
        cdef time_t second = <time_t>(ts_ms // 1000)
        cdef int ms = <int>(ts_ms % 1000)
        cdef tm parts
        if <uint64_t>second != self.second:
            gmtime_r(&second, &parts)
            snprintf(self.second_text, sizeof(self.second_text), "%04d-%02d-%02dT%02d:%02d:%02d.000Z",
                     parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec)
            self.second = <uint64_t>second
        self.second_text[20] = <char>(c'0' + ms // 100)
        self.second_text[21] = <char>(c'0' + ms // 10 % 10)
        self.second_text[22] = <char>(c'0' + ms % 10)
        return self.second_text
