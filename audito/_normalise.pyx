"""Compiled half of normalise.py: a whole audit event in, what it means out. See _normalise.pxd."""

from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8, PyUnicode_New
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from audito._fastparse cimport (
    TYPE_CWD, TYPE_EXECVE, TYPE_LOGIN, TYPE_PATH, TYPE_PROCTITLE, TYPE_SOCKADDR, TYPE_SYSCALL,
)
from audito._fields cimport (
    ARG_LENGTH, ARG_WHOLE, F_ADDED_EUID, F_ADDED_UID, F_ARCH, F_AUID, F_COMM, F_CWD, F_EUID, F_EXE, F_EXIT, F_KEY,
    F_MAIN_ONLY, F_PID, F_PPID, F_RES, F_SES, F_SUCCESS, F_SYSCALL, F_UID, NO_INT, TYPE_AVC, TYPE_SECCOMP, TYPE_TTY,
    TYPE_USER_CMD, TYPE_USER_TTY, PathFields, arg_key, hex_value, is_ascii, is_id_key, is_kernels, is_octal,
    is_simple, is_upper_hex, known_field, lower_key, needs_decoding, read_path, record_field, same_key, same_letters,
    same_text, says_nothing, signed_int, stripped, without_mark,
)
from audito._redact cimport HARMLESS
from audito._scan cimport (
    Span, digits, ends_hash, ends_text, field_end, further, is_hex, is_tail_mark, load8, next_field, same_bytes, span_find,
    span_int, span_is, span_of, span_starts, unhex, unquoted, without_tail,
)
from audito._sessions cimport (
    EVENT_TRUNCATED, Event, Session, first_record, next_record, record_before_end, record_body, record_line,
)

from audito import events
from audito.objects import absolute as _absolute
from audito.objects import peer as _peer
from audito.text import lossless

# As C variables: a global that is looked up by name costs 20 to 40 ns.
cdef object absolute = _absolute
cdef object peer = _peer

cdef extern from "Python.h":
    void *PyUnicode_DATA(object text)

cdef extern from "stdlib.h":
    void *aligned_alloc(size_t alignment, size_t size) nogil

cdef enum:
    AF_UNIX = 1
    AF_INET = 2

# ---------------------------------------------------------------------------------------------- words


cdef inline uint32_t word_place(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    # Of a text in the words.
    return ends_hash(p, len) & (WORDS - 1)


cdef inline Span tty_before(const uint8_t *start, const uint8_t *p) noexcept nogil:
    # The value of tty=, from ` tty=pts0 ses=7` in front of p; ptr NULL where it is not one of the last two fields.
    cdef const uint8_t *end
    cdef int field
    for field in range(2):
        end = p
        while p > start and (p - 1)[0] > c' ':
            p -= 1
        if end - p >= 4 and memcmp(p, b"tty=", 4) == 0:
            return span_of(p + 4, end - p - 4)
        if p > start:
            p -= 1
    return span_of(NULL, 0)


cdef inline bint may_read_escaped(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    # Whether a text may need more of text.lossless() than its decoding: it has a backslash before another or an x.
    cdef const uint8_t *end = p + len
    while True:
        p = <const uint8_t *>memchr(p, c'\\', <size_t>(end - p))
        if p is NULL:
            return False
        p += 1
        if p < end and (p[0] == c'\\' or p[0] == c'x'):
            return True


# ----------------------------------------------------------------------------------------------- rules

cdef FieldNames field_names(names, list keep) except *:
    cdef FieldNames found
    cdef bytes name
    memset(&found, 0, sizeof(FieldNames))
    if len(names) > FIELD_NAMES_MAX:
        raise ValueError(f"a rule names {len(names)} fields, {FIELD_NAMES_MAX} are possible: {names}")
    for text in names:
        name = text.encode()
        keep.append(name)
        found.name[found.count] = span_of(<const uint8_t *><const char *>name, len(name))
        found.count += 1
    return found


cdef class Action:

    def __cinit__(self, str action, str object_type, when_field, primary, secondary, how, int path_index=-1,
                  bint socket=False):
        self.action = action
        self.object_type = object_type or None
        self.keep = []
        self.when = field_names([when_field] if when_field else [], self.keep)
        self.primary = field_names(primary, self.keep)
        self.secondary = field_names(secondary, self.keep)
        self.how = field_names(how, self.keep)
        self.path_index = path_index
        self.socket = socket


cdef class Names:

    def __cinit__(self, tuple directories, str second):
        self.at = self.at_second = AT_CWD
        if directories is not None:
            self.at = directories[0] if directories else AT_UNKNOWN
            self.at_second = directories[1] if len(directories) > 1 else AT_UNKNOWN
        self.second = second.encode()
        if second == "UNKNOWN":
            self.at_second = AT_UNKNOWN     # what a symlink says is relative to where that is


cdef Names NAMELESS = Names.__new__(Names, (), "")      # no syscall says against what


cdef class Meaning:
    pass


cdef class Rules:

    def __cinit__(self, dict record_actions, dict syscall_actions, syscall_name, dict type_names, interpreters,
                  dict socketcalls, dict names):
        self.record_actions = record_actions
        self.syscall_actions = syscall_actions
        self.syscall_name = syscall_name
        self.type_names = type_names
        self.interpreters = tuple(interpreters)
        self.interpreter_bytes = tuple(prefix.encode() for prefix in interpreters)
        self.kept = [None] * SYSCALLS_KEPT
        self.names = names
        self.socketcall = ("socketcall", syscall_actions.get("socketcall"), None)
        self.socketcalls = {number: (name, syscall_actions.get(name), None) for number, name in socketcalls.items()}

    cdef tuple syscall_of(self, Facts *facts):
        # (name or number as text, its Action or None, its Names or None); None where the event has no readable arch and
        # syscall.
        cdef int64_t arch = hex_value(facts.known[F_ARCH])
        cdef int64_t number = signed_int(facts.known[F_SYSCALL])
        cdef int64_t key = <int64_t>(<uint64_t>arch << 32 | <uint32_t>number)
        cdef uint32_t place = (<uint32_t>number ^ <uint32_t>arch) & (SYSCALLS_KEPT - 1)
        if arch < 0 or number == NO_INT:
            return None
        if self.kept_keys[place] != key or self.kept[place] is None:
            name = self.syscall_name(arch, number) or str(number)
            self.kept[place] = self.socketcall if name == "socketcall" else (
                name, self.syscall_actions.get(name), self.names.get(name))
            self.kept_keys[place] = key
        return <tuple>self.kept[place]

    cdef tuple meant_by(self, tuple syscall, Facts *facts):
        # 32-bit programs connect, bind and send through one syscall: its first argument says which is meant.
        return self.socketcalls.get(hex_value(record_field(facts.main, b"a0", 2)), syscall)


# ---------------------------------------------------------------------------------------------- reading


cdef inline const uint8_t *take(Facts *f, const uint8_t *p, const uint8_t *end, const char *name, size_t len,
                                int known) noexcept nogil:
    # Note a known field of a SYSCALL where it stands at p, and return what is behind its blank; p where another one does,
    # or where it has to be looked at more closely. Its name with the `=` has at most eight bytes.
    cdef uint64_t word = 0
    cdef uint64_t mask = 0
    cdef const uint8_t *start = p + len
    memcpy(&word, name, len)
    memset(&mask, 0xFF, len)
    if end - p <= 8 or load8(p) & mask != word:
        return p
    p = field_end(start, end)
    if start[0] == c'"' and (p - start < 3 or (p - 1)[0] != c'"'):
        return start - len
    if p > start and start[0] != c'(' and start[0] != c'?':
        f.known[known] = span_of(start, p - start)
        f.known_types[known] = TYPE_SYSCALL
    return p + 1 if p < end and p[0] == c' ' else p


cdef inline const uint8_t *in_order(Facts *f, const uint8_t *p, const uint8_t *end, bint want_tty) noexcept nogil:
    # The fields of a SYSCALL that are where the kernel has them since 2.6.33; returns where it is otherwise.
    cdef const uint8_t *q
    p = take(f, p, end, b"arch=", 5, F_ARCH)
    p = take(f, p, end, b"syscall=", 8, F_SYSCALL)
    p = take(f, p, end, b"success=", 8, F_SUCCESS)
    p = take(f, p, end, b"exit=", 5, F_EXIT)
    if end - p < 3 or p[0] != c'a' or p[1] != c'0':
        return p                                # per=, or what else a kernel may have there
    q = further(p, end, b" ppid=", 6)           # past a0 to a3, items=
    if q is NULL:
        return p
    p = take(f, q + 1, end, b"ppid=", 5, F_PPID)
    p = take(f, p, end, b"pid=", 4, F_PID)
    p = take(f, p, end, b"auid=", 5, F_AUID)
    p = take(f, p, end, b"uid=", 4, F_UID)
    q = further(p, end, b" euid=", 6)           # past gid=
    if q is NULL:
        return p
    p = take(f, q + 1, end, b"euid=", 5, F_EUID)
    q = further(p, end, b" comm=", 6)           # past eight more ids, tty=, ses=
    if q is NULL:
        return p
    if want_tty:
        f.tty = tty_before(p, q)
    p = take(f, q + 1, end, b"comm=", 5, F_COMM)
    return take(f, p, end, b"exe=", 4, F_EXE)


cdef class Reader(EventSink):

    def __cinit__(self, Rules rules, *args, **kwargs):
        self.rules = rules
        self.meaning = Meaning()
        self.words = <Word *>aligned_alloc(sizeof(Word), WORDS * sizeof(Word))
        if self.words is NULL:
            raise MemoryError()
        memset(self.words, 0, WORDS * sizeof(Word))

    def __dealloc__(self):
        if self.words is not NULL:
            self.forget_words()
            free(self.words)
        free(self.scratch)

    cdef void forget_words(self) noexcept:
        # Each is kept with what this finder said of it.
        cdef int i
        for i in range(WORDS):
            Py_XDECREF(self.words[i].text)
            self.words[i].text = NULL

    cdef uint8_t *room(self, size_t size) except NULL:
        # Scratch memory for decoded text, owned by the reader, valid until the next call. Never NULL, also for none.
        cdef uint8_t *grown
        if size >= self.scratch_size:
            grown = <uint8_t *>realloc(self.scratch, size + 1)
            if grown is NULL:
                raise MemoryError()
            self.scratch = grown
            self.scratch_size = size + 1
        return self.scratch

    cdef int read(self, Event *event) except -1:
        # Fill facts from the event: the main record first, then the others in order.
        cdef Facts *f = &self.facts
        cdef Record *record = first_record(event)
        f.event = event
        f.type = event.first_type
        f.field_count = f.path_count = 0
        f.address = NULL
        f.has_argv = False
        f.avc_result = f.tty = span_of(NULL, 0)
        self.exe = None
        memset(f.known, 0, sizeof(f.known))
        f.main = record
        if event.records > 1:
            while record_before_end(event, record):
                if record.type == TYPE_SYSCALL:
                    f.main = record
                    break
                record = next_record(record)
        self.read_record(f.main, True)
        f.failed = self.exact and self.is_void(f.main.type)
        if f.failed:
            f.field_count = 0
            memset(f.known, 0, sizeof(f.known))
        record = first_record(event)
        while record_before_end(event, record):
            if record != f.main:
                self.read_record(record, False)
            record = next_record(record)
        return 0

    cdef bint is_void(self, uint16_t type) except -1:
        # Whether the main record lacks what makes it one of its kind: go-libaudit gives none of its fields then.
        cdef Facts *f = &self.facts
        cdef int64_t argc = 0
        cdef bint whole = True
        if type == TYPE_EXECVE:
            self.read_argv(&argc, &whole)
            return not whole
        if type == TYPE_SOCKADDR:
            return not is_hex(stripped(record_field(f.main, b"saddr", 5)))
        if type == TYPE_SYSCALL or type == TYPE_SECCOMP:
            return (hex_value(f.known[F_ARCH]) < 0 or signed_int(f.known[F_SYSCALL]) == NO_INT
                    or f.known[F_EXE].ptr is NULL
                    or (type == TYPE_SECCOMP and self.find(span_of(<const uint8_t *>b"sig", 3)) is NULL))
        if type == TYPE_USER_CMD:
            return self.find(span_of(<const uint8_t *>b"cmd", 3)) is NULL
        if type == TYPE_PROCTITLE:
            return self.find(span_of(<const uint8_t *>b"proctitle", 9)) is NULL
        if type == TYPE_TTY or type == TYPE_USER_TTY:
            return self.find(span_of(<const uint8_t *>b"data", 4)) is NULL
        return False

    cdef int read_record(self, Record *record, bint main) except -1:
        cdef Facts *f = &self.facts
        if record.type == TYPE_PATH and not main:
            if f.path_count < PATHS_MAX:
                f.paths[f.path_count] = record
                f.path_count += 1
        elif record.type == TYPE_EXECVE:
            f.has_argv = True
        elif record.type == TYPE_SOCKADDR and not main:
            f.address = record
        elif record.type == TYPE_SYSCALL and (not main or self.is_plain()):
            if main:
                self.read_syscall(record_body(record))
        elif record.type == TYPE_CWD and not self.exact and not main:
            self.read_cwd(record_body(record))
        elif record.type == TYPE_PROCTITLE and not self.exact and not main:
            pass                            # only `decode` shows it
        else:
            self.read_fields(record_body(record), record.type, main, 0)
        return 0

    cdef inline void read_cwd(self, Span text) noexcept nogil:
        # A CWD record has one field, which no rule asks for.
        cdef Facts *f = &self.facts
        cdef const uint8_t *p = text.ptr
        cdef Span key
        cdef Span value
        if f.known[F_CWD].ptr is NULL and next_field(&p, text.ptr + text.len, &key, &value):
            if span_is(key, b"cwd", 3) and not says_nothing(unquoted(value)):
                f.known[F_CWD] = value
                f.known_types[F_CWD] = TYPE_CWD

    cdef inline bint is_plain(self) noexcept nogil:
        # An event named by its SYSCALL: no rule of it asks for other fields of that record than the known ones.
        return not self.exact and self.facts.type == TYPE_SYSCALL

    cdef void read_syscall(self, Span text) noexcept nogil:
        # Note the known fields of a SYSCALL record. It has thirty fields, and two of three records that are read
        # for an event are of this kind: so its own loop, without the care that messages of programs need; and it
        # begins where the fields are no longer in the order in which the kernel writes them.
        cdef Facts *f = &self.facts
        cdef const uint8_t *end = text.ptr + text.len
        cdef const uint8_t *p = in_order(f, text.ptr, end, self.want_tty)
        cdef const uint8_t *start
        cdef Span key
        cdef Span value
        cdef int known
        while True:
            while p < end and p[0] <= c' ':
                if p[0] == 0x1D and self.is_login_user():
                    return                  # what follows are names of ids, of which none is wanted
                p += 1
            start = p
            while p < end and p[0] != c'=' and p[0] > c' ':
                p += 1
            if p >= end:
                return
            key = span_of(start, p - start)
            if p[0] != c'=':
                continue                # `subj=docker-default (enforce)`
            p += 1
            start = p
            p = field_end(p, end)
            if start < p and start[0] == c'"' and (p - start < 2 or (p - 1)[0] != c'"'):
                # A logger has glued auditd's own names to it.
                p = <const uint8_t *>memchr(start + 1, c'"', <size_t>(end - start - 1))
                p = end if p is NULL else p + 1
            if key.len > 4 and key.ptr[0] == c'#':
                key = without_mark(key)
            known = known_field(key)
            if known:
                value = span_of(start, p - start)
                if known == F_KEY and value.len and value.ptr[0] != c'"':
                    value = without_tail(value, True)       # the last field of the record
                if value.len > 2 if value.len and value.ptr[0] == c'"' else not says_nothing(value):
                    f.known[known] = value
                    f.known_types[known] = TYPE_SYSCALL

    cdef inline bint is_login_user(self) noexcept nogil:
        # Whether uid and euid are those of the login: then nobody asks for their names.
        cdef Facts *f = &self.facts
        return f.known[F_AUID].ptr is not NULL and same_text(f.known[F_UID], f.known[F_AUID]) and same_text(
            f.known[F_EUID], f.known[F_AUID])

    cdef int read_fields(self, Span text, uint16_t type, bint main, int depth) except -1:
        # Note the fields of one record. Within a record the last of two wins, across records the first.
        cdef Facts *f = &self.facts
        cdef const uint8_t *p = text.ptr
        cdef const uint8_t *end = text.ptr + text.len
        cdef Span key
        cdef Span value
        cdef Span inner
        cdef Field *field
        cdef uint16_t first = f.field_count
        cdef int known
        cdef bint behind = False        # the quote that ends a message, without a mark
        if type == TYPE_AVC and depth == 0:
            p = self.read_avc(text)
        while next_field(&p, end, &key, &value):
            if key.len == 3 and value.len and value.ptr[0] == c"'" and span_is(key, b"msg", 3):
                inner = self.message(value, end)
                p = inner.ptr + inner.len
                if depth < NESTING_MAX:
                    self.read_fields(inner, type, main, depth + 1)
                if p + 1 < end and main:
                    f.known[F_ADDED_UID] = span_of(NULL, 0)     # auditd's own is still to come
                continue
            if type == TYPE_LOGIN and key.ptr - 4 >= text.ptr and (
                    memcmp(key.ptr - 4, b"old ", 4) == 0 or memcmp(key.ptr - 4, b"new ", 4) == 0):
                key = span_of(key.ptr - 4, key.len + 4)     # old_auid, new_ses: kernels up to 3.13
            if not self.exact:
                behind = key.len > 1 and key.ptr[0] == c"'"
                if behind:
                    key = without_mark(span_of(key.ptr + 1, key.len - 1))
                if value.len and (value.ptr[value.len - 1] == c'=' or (
                        value.ptr[0] != c'"' and span_is(key, b"key", 3))):     # a name follows: `1UID="root"`
                    value = without_tail(value, span_is(key, b"data", 4))
                    p = min(p, value.ptr + value.len)
            known = known_field(key)
            if known and self.counts(known, main, depth, behind) and not says_nothing(stripped(value)):
                f.known[known] = value
                f.known_types[known] = type
            if f.field_count >= FIELDS_MAX:
                continue
            if not (type == TYPE_LOGIN and span_find(key, c' ', 0) == 3):
                key = lower_key(key)
            if key.len == 0 or says_nothing(stripped(value)):
                continue
            field = &f.fields[f.field_count]
            field.key = key
            field.value = stripped(value) if self.exact else unquoted(value)
            field.type = type
            field.bare = value.len > 0 and value.ptr[0] != c'"' and value.ptr[0] != c"'"
            field.side = main and is_id_key(key)
            f.field_count += 1
        if depth == 0 and f.field_count - first > 1:
            self.last_wins(first)
        return 0

    cdef inline bint counts(self, int known, bint main, int depth, bint behind) noexcept nogil:
        # Whether a known field of this record is taken. Of a program's message (depth) only what the kernel did not
        # say itself: `uid=0 … msg='op=add-user uid=1001'` is done by root. go-libaudit takes the last. The names that
        # auditd adds are in the order of the fields, so the first is the kernel's; in a message it is none, but for
        # the one behind its quote (`msg='…'UID="root"`).
        cdef Facts *f = &self.facts
        if known == F_ADDED_UID or known == F_ADDED_EUID:
            return f.known[known].ptr is NULL and (depth == 0 or behind)
        if not main:
            return f.known[known].ptr is NULL and known < F_MAIN_ONLY
        return depth == 0 or self.exact or f.known[known].ptr is NULL or not is_kernels(known)

    cdef Span message(self, Span value, const uint8_t *end) noexcept nogil:
        # The text inside msg='…': to the last quote before auditd's own tail, for a user's text may hold quotes.
        cdef const uint8_t *p = value.ptr + 1
        cdef const uint8_t *stop = <const uint8_t *>memchr(p, 0x1D, <size_t>(end - p))
        if stop is NULL:
            stop = p
            while stop < end and not is_tail_mark(stop, end):
                stop += 1
        if stop > p and (stop - 1)[0] == c"'":
            stop -= 1
        return span_of(p, stop - p)

    cdef void last_wins(self, uint16_t first) noexcept nogil:
        # Let the last field of a name in one record stand in the place of the first.
        cdef Facts *f = &self.facts
        cdef uint16_t i, j
        if f.field_count - first > 64:
            return                          # only hostile text has so many: order is of no matter there
        for i in range(first, f.field_count):
            j = f.field_count - 1
            while j > i:
                if f.fields[j].key.len == f.fields[i].key.len and same_key(f.fields[j].key, f.fields[i].key):
                    f.fields[i] = f.fields[j]
                    break
                j -= 1

    cdef const uint8_t *read_avc(self, Span text) noexcept nogil:
        # `avc:  denied  { read write } for  pid=…` (SELinux): the result, and where the fields start.
        cdef const uint8_t *p = text.ptr
        cdef const uint8_t *end = text.ptr + text.len
        cdef const uint8_t *start
        cdef const uint8_t *close
        if not span_starts(text, b"avc:", 4):
            return text.ptr
        p += 4
        while p < end and p[0] == c' ':
            p += 1
        start = p
        while p < end and p[0] != c' ':
            p += 1
        close = <const uint8_t *>memchr(p, c'}', <size_t>(end - p))
        if close is NULL:
            return text.ptr
        while close < end and (close[0] == c'}' or close[0] == c' '):
            close += 1
        if end - close < 4 or memcmp(close, b"for ", 4) != 0:
            return text.ptr
        self.facts.avc_result = span_of(start, p - start)
        return close + 4

    cdef Field *find(self, Span name) noexcept nogil:
        cdef Facts *f = &self.facts
        cdef uint16_t i
        cdef Field *side = NULL
        for i in range(f.field_count):
            if f.fields[i].key.len == name.len and same_key(f.fields[i].key, name):
                if not f.fields[i].side:
                    return &f.fields[i]
                if side is NULL:
                    side = &f.fields[i]
        return side

    cdef Field *first_of(self, FieldNames *names) noexcept nogil:
        cdef Field *field
        cdef int i
        for i in range(names.count):
            field = self.find(names.name[i])
            if field is not NULL:
                return field
        return NULL

    # ------------------------------------------------------------------------------ text

    cdef str field_text(self, Field *field):
        if ends_text(field.key, b"auid", 4) and (field.key.len == 4 or span_is(field.key, b"old-auid", 8)) and (
                span_is(field.value, b"4294967295", 10) or span_is(field.value, b"-1", 2)):
            return "unset"
        return self.value_text(field.value, field.bare and needs_decoding(field.key, field.type, self.exact))

    cdef str known_text(self, int field):
        # The text of a known field, None without it. Bare hex is an encoded text where the kernel encodes.
        cdef Span raw = self.facts.known[field]
        cdef bint encoded = False
        if raw.ptr is NULL:
            return None
        if raw.ptr[0] != c'"' and raw.ptr[0] != c"'":
            if field == F_EXE:
                encoded = needs_decoding(span_of(<const uint8_t *>b"exe", 3), self.facts.known_types[field], self.exact)
            elif field == F_COMM:
                encoded = not self.exact
            else:
                encoded = field == F_CWD or field == F_KEY
        return self.value_text(stripped(raw) if self.exact else unquoted(raw), encoded)

    cdef str value_text(self, Span value, bint encoded):
        if encoded and is_upper_hex(value):
            return self.decoded(value)
        return self.plain(value.ptr, value.len)

    cdef str decoded(self, Span hex):
        # Text of bare hex. NULs part the words of a command line, and rule keys are parted by 0x01.
        cdef Py_ssize_t len = hex.len // 2
        cdef uint8_t *out = self.room(<size_t>len)
        cdef Py_ssize_t i
        unhex(hex, out)
        for i in range(len):
            if out[i] == 0:
                out[i] = c' '
        return self.plain(out, len)

    cdef str plain(self, const uint8_t *p, Py_ssize_t len):
        # Bytes to text without loss. ASCII without a backslash, nearly all there is, is one allocation and a copy, or
        # none: the same names come again and again.
        cdef object text
        cdef PyObject *word = self.word(p, len)
        cdef int danger = HARMLESS
        if word is not NULL:
            return <str>word
        if self.finder is not None:
            danger = self.danger_of(p, len)
            self.danger |= danger
        if is_simple(p, len) or (self.exact and is_ascii(p, len)):
            text = PyUnicode_New(len, 127)
            memcpy(PyUnicode_DATA(text), p, <size_t>len)
            if 0 < len <= WORD_BYTES_MAX:
                self.keep_word(text, p, len, danger)
            return <str>text
        if not may_read_escaped(p, len):
            try:
                return PyUnicode_DecodeUTF8(<const char *>p, len, NULL)
            except UnicodeDecodeError:
                pass
        return lossless(p[:len], self.exact)

    cdef PyObject *word(self, const uint8_t *p, Py_ssize_t len) noexcept:
        # The text of these bytes where they are one of the words, which are plain but for quotes and control bytes; NULL:
        # they are not. Its danger is noted.
        cdef Word *word
        if not 0 < len <= WORD_BYTES_MAX:
            return NULL
        word = &self.words[word_place(p, len)]
        if word.len != len or word.text is NULL or not same_bytes(word.bytes, p, len):
            return NULL
        self.danger |= word.danger
        return word.text

    cdef void keep_word(self, text, const uint8_t *p, Py_ssize_t len, int danger) noexcept:
        # Put a text in the place of the one that has it.
        cdef Word *word = &self.words[word_place(p, len)]
        Py_XDECREF(word.text)
        Py_INCREF(text)
        word.text = <PyObject *>text
        word.danger = <uint8_t>danger
        word.len = <uint8_t>len
        memcpy(word.bytes, p, <size_t>len)

    cdef int danger_of(self, const uint8_t *p, Py_ssize_t len) except -1:
        # One pass, and no more for nearly all texts.
        if self.finder.own_search is None and not self.finder.needles.has(p, len):
            return HARMLESS
        return self.finder.danger(p, len)

    # ------------------------------------------------------------------------------ meaning

    cdef int mean(self) except -1:
        # Action, object and how, by the row of the record type that names the event, or of its syscall.
        cdef Facts *f = &self.facts
        cdef Meaning m = self.meaning
        cdef Action row = None
        cdef Action other
        cdef Field *field
        cdef tuple syscall = None
        m.action = m.how = ""
        m.object_type = m.primary = m.secondary = None
        m.result = self.result()
        if f.known[F_SYSCALL].ptr is not NULL:
            syscall = self.rules.syscall_of(f)
            if syscall is self.rules.socketcall and not self.exact:
                syscall = self.rules.meant_by(syscall, f)
        if f.type == TYPE_SYSCALL:
            row = <Action>syscall[1] if syscall is not None else None
        else:
            for other in self.rules.record_actions.get(f.type, ()):
                if other.when.count == 0 or self.first_of(&other.when) is not NULL or (
                        f.avc_result.len and span_is(other.when.name[0], b"seresult", 8)):
                    row = other
                    break
        m.how = self.default_how()
        if row is None:
            return 0 if self.exact else self.mean_unknown(syscall)
        m.action = row.action
        m.object_type = row.object_type
        if row.path_index >= 0:
            self.mean_file(row.path_index, NAMELESS if syscall is None else <Names>syscall[2])
        elif row.socket:
            self.mean_socket()
        if row.primary.count:
            field = self.first_of(&row.primary)
            if field is not NULL:
                m.primary = self.named_text(field, syscall)
            field = self.first_of(&row.secondary)
            if field is not NULL:
                m.secondary = self.field_text(field)
        if row.how.count:
            if syscall is not None and span_is(row.how.name[0], b"syscall", 7):
                m.how = syscall[0]
            else:
                field = self.first_of(&row.how)
                if field is not NULL:
                    m.how = self.field_text(field)
        return 0

    cdef int mean_unknown(self, tuple syscall) except -1:
        # An event of which no row knows a word: what stands for the action is the syscall, its number where it has no
        # name, or the type of the record; and the object is what its records name. go-libaudit says nothing there.
        cdef Facts *f = &self.facts
        cdef Meaning m = self.meaning
        m.action = <str>syscall[0] if f.type == TYPE_SYSCALL and syscall is not None else self.type_name()
        if f.path_count:
            m.object_type = "file"
            self.mean_file(0, NAMELESS if syscall is None else <Names>syscall[2])
        elif f.address is not NULL:
            m.object_type = "socket"
            self.mean_socket()
        return 0

    cdef str named_text(self, Field *field, tuple syscall):
        # The text of a field that a rule names; a syscall's number becomes its name.
        if syscall is not None and span_is(field.key, b"syscall", 7):
            return <str>syscall[0]
        return self.field_text(field)

    cdef str default_how(self):
        # exe, else comm; comm where exe is an interpreter: then the script's name says more.
        cdef Span exe = self.facts.known[F_EXE]
        if self.facts.known[F_COMM].ptr is not NULL and (exe.ptr is NULL or self.is_interpreter(exe)):
            return self.known_text(F_COMM)
        return self.exe_text() or ""

    cdef bint is_interpreter(self, Span exe) except -1:
        cdef Span program = stripped(exe)
        cdef bytes prefix
        if exe.ptr[0] != c'"' and is_upper_hex(program):
            return self.exe_text().startswith(self.rules.interpreters)
        if not span_starts(program, b"/usr/bin/", 9):
            return False
        for prefix in self.rules.interpreter_bytes:
            if span_starts(program, <const char *>prefix, len(prefix)):
                return True
        return False

    cdef str exe_text(self):
        # The text of exe, made once an event: how and exe are mostly the same.
        if self.exe is None:
            self.exe = self.known_text(F_EXE)
        return self.exe

    cdef int mean_file(self, int path_index, Names names) except -1:
        # The object is the first PATH from this index on that is neither a parent directory nor unknown.
        cdef Facts *f = &self.facts
        cdef Meaning m = self.meaning
        cdef int start = path_index if path_index < f.path_count else 0
        cdef int i
        cdef PathFields path
        if f.path_count == 0:
            return 0
        for i in range(start, f.path_count):
            read_path(f.paths[i], &path)
            if not span_starts(path.nametype, b"PARENT", 6) and not span_starts(path.nametype, b"UNKNOWN", 7):
                break
        else:
            i = start
            read_path(f.paths[start], &path)
        m.primary = self.path_text(path.name, AT_CWD if names is None else names.at)
        if is_octal(path.mode):
            m.object_type = "file"      # whatever the mode: directories and devices too, in go-libaudit's words
        if names is not None and names.second and not self.exact:
            self.mean_second(i, names)
        return 0

    cdef int mean_second(self, int first, Names names) except -1:
        # The second name of a syscall of two stands in the last PATH of its kind.
        cdef int i = self.facts.path_count - 1
        cdef PathFields path
        while i >= 0:
            read_path(self.facts.paths[i], &path)
            if i != first and span_starts(path.nametype, <const char *>names.second, len(names.second)):
                self.meaning.secondary = self.path_text(path.name, names.at_second)
                break
            i -= 1
        return 0

    cdef str path_text(self, Span name, int at):
        # The text of a PATH's name, absolute where the records say against what it is relative; None without one.
        cdef Span text = unquoted(name)
        cdef bint encoded = text.len == name.len
        if self.exact or encoded:
            text = stripped(name)
            if says_nothing(text):
                return None
        if text.len == 0:
            return None
        if self.exact or at == AT_UNKNOWN or text.ptr[0] == c'/' or (encoded and span_starts(text, b"2F", 2)):
            return self.value_text(text, encoded or name.ptr[0] != c'"')
        return self.relative_text(text, encoded, at)

    cdef str relative_text(self, Span text, bint encoded, int at):
        # A relative name, put behind the working directory, or as it is: the records do not tell what directory a
        # descriptor was. The kernel took an int: -100 is AT_FDCWD, whatever stands in the upper half of the register.
        cdef bytes name = self.bytes_of(text, encoded)
        cdef char key[2]
        key[0] = c'a'
        key[1] = <char>(c'0' + at)
        if at == AT_CWD or ends_text(record_field(self.facts.main, key, 2), b"ffffff9c", 8):
            name = absolute(name, self.working_directory())
        return lossless(name)

    cdef bytes working_directory(self):
        # From the CWD record. Without one (many rules exclude them) from a PARENT: there the kernel writes it for a
        # name that has no directory of its own, without the slash that a name's own one ends with.
        cdef Facts *f = &self.facts
        cdef Span raw = f.known[F_CWD]
        cdef PathFields path
        cdef bytes name
        cdef int i
        if raw.ptr is not NULL:
            return self.bytes_of(unquoted(raw), unquoted(raw).len == raw.len)
        for i in range(f.path_count):
            read_path(f.paths[i], &path)
            if span_starts(path.nametype, b"PARENT", 6):
                name = self.bytes_of(unquoted(path.name), unquoted(path.name).len == path.name.len)
                if name.startswith(b"/") and not name.endswith(b"/"):
                    return name
        return b""

    cdef bytes bytes_of(self, Span value, bint encoded):
        # The bytes of a raw value without its quotes.
        cdef uint8_t *out
        if not encoded or not is_upper_hex(value):
            return value.ptr[:value.len]
        out = self.room(<size_t>(value.len // 2))
        unhex(value, out)
        return out[:value.len // 2]

    cdef int mean_socket(self) except -1:
        # The object is the peer: address and port, or what its family has in their place.
        cdef Meaning m = self.meaning
        cdef Span saddr
        cdef Py_ssize_t size
        cdef uint8_t *raw
        cdef int family
        if self.facts.address is NULL:
            return 0
        saddr = stripped(record_field(self.facts.address, b"saddr", 5))
        if not self.exact:
            saddr = without_tail(saddr, True)
        if not is_hex(saddr) or saddr.len < 4:
            return 0
        size = saddr.len // 2
        raw = self.room(<size_t>size)
        unhex(saddr, raw)
        family = raw[0] | raw[1] << 8
        if raw[0] == 0 and not self.exact:
            family = raw[1]             # a big-endian host
        if family == AF_INET:
            if size >= 8:
                m.primary = f"{raw[4]}.{raw[5]}.{raw[6]}.{raw[7]}"
                m.secondary = str(raw[2] << 8 | raw[3])
        elif family == AF_UNIX:
            m.primary = self.unix_path(raw, size)
        else:
            m.primary, m.secondary = peer(raw[:size], self.exact)
        return 0

    cdef str unix_path(self, uint8_t *raw, Py_ssize_t size):
        # sun_path to its first NUL: behind it the kernel logs what else was in the caller's buffer. An abstract name
        # begins with a NUL and has the length of the address; programs that give the whole struct fill it with NULs.
        cdef Py_ssize_t n = 2
        cdef bytes name
        if self.exact or (size > 2 and raw[2]):
            while n < size and raw[n]:
                n += 1
            if n > 2 and raw[2] != c'/' and not self.exact:
                name = raw[2:n]
                return lossless(absolute(name, self.working_directory()))
            return self.plain(raw + 2, n - 2) if n > 2 else None
        if size == 2:
            return "unix:unnamed"
        while size > 3 and raw[size - 1] == 0:
            size -= 1
        return "@" + self.plain(raw + 3, size - 3)

    cdef str result(self):
        # "success", "fail", or None where the event does not say.
        cdef Span value = stripped(self.facts.known[F_SUCCESS])
        if value.len == 0:
            value = stripped(self.facts.known[F_RES])
        if value.len == 0:
            return None
        if span_is(value, b"1", 1) or (value.len == 3 and same_letters(value, b"yes", 3)) or (
                value.len >= 3 and same_letters(value, b"suc", 3)):
            return "success"
        return "fail"

    cdef str type_name(self):
        cdef Record *record = first_record(self.facts.event)
        cdef Span name
        known = self.rules.type_names.get(self.facts.type)
        if known is not None:
            return known
        name = span_of(record_line(record) + 5, record.len - 5)
        return self.plain(name.ptr, max(span_find(name, c' ', 0), 0))

    # ------------------------------------------------------------------------------ argv

    cdef int read_argv(self, int64_t *argc, bint *whole) except -1:
        # The arguments of the EXECVE records, in order, to take_arg(); argc is what the kernel counted, -1 where it does
        # not say. Returns how many there are.
        cdef Record *record = first_record(self.facts.event)
        cdef ArgvCursor at
        memset(&at, 0, sizeof(at))
        at.argc = at.index = at.length = -1
        while record_before_end(self.facts.event, record):
            if record.type == TYPE_EXECVE:
                self.argv_record(record_body(record), &at)
            record = next_record(record)
        self.argv_close(&at)
        argc[0] = at.argc
        whole[0] = at.argc == at.count and not at.damaged and not self.facts.event.flags & EVENT_TRUNCATED
        return <int>at.count

    cdef int take_arg(self, const uint8_t *p, Py_ssize_t len) except -1:
        # The next argument: what becomes of it is a subclass's business.
        return 0

    cdef int argv_record(self, Span body, ArgvCursor *at) except -1:
        cdef const uint8_t *p = body.ptr
        cdef const uint8_t *end = body.ptr + body.len
        cdef Span key
        cdef Span value
        cdef int64_t index = -1
        cdef int64_t part = -1
        while True:
            p = self.plain_args(p, end, at)
            if not next_field(&p, end, &key, &value):
                return 0
            if span_is(key, b"argc", 4):
                if at.argc < 0:
                    at.argc = span_int(value)
                continue
            if not arg_key(key, &index, &part):
                continue                    # what else a kernel may add
            if 0 <= at.argc <= index:
                continue                    # past what it counted: no argument
            if at.count >= ARGS_MAX or at.bytes >= ARGV_BYTES_MAX:
                at.damaged = True
                return 0
            if part == ARG_LENGTH:
                self.argv_close(at)
                at.length = span_int(value)
                continue
            if part == ARG_WHOLE or index != at.index:
                at.damaged |= index != at.next
                at.next = index + 1
            if part == ARG_WHOLE:
                self.argv_close(at)
                self.argv_add(value, at)
            else:
                self.argv_part(index, part, value, at)

    cdef const uint8_t *plain_args(self, const uint8_t *p, const uint8_t *end, ArgvCursor *at) except NULL:
        # Take the arguments from p on that are as nearly all: ` aN="…"`, N being the next. Returns what is behind them.
        cdef const uint8_t *q
        cdef const uint8_t *close
        if at.index >= 0 or at.length >= 0:
            return p
        while end - p >= 6 and p[0] == c' ' and p[1] == c'a':
            q = p + 2
            if digits(&q, end, 9) != at.next or 0 <= at.argc <= at.next or end - q < 3 or q[0] != c'=' or q[1] != c'"':
                break
            q += 2
            close = <const uint8_t *>memchr(q, c'"', <size_t>(end - q))
            if close is NULL or at.count >= ARGS_MAX or at.bytes >= ARGV_BYTES_MAX:
                break
            self.take_arg(q, close - q)
            at.next += 1
            at.count += 1
            at.bytes += close - q
            p = close + 1
        return p

    cdef int argv_add(self, Span value, ArgvCursor *at) except -1:
        # A whole argument: quoted literally, or bare hex. `(null)` without quotes says that it could not be read.
        cdef Span text = unquoted(value)
        cdef uint8_t *out
        if text.len != value.len:
            self.take_arg(text.ptr, text.len)
            at.bytes += text.len
        elif is_upper_hex(value):
            out = self.room(<size_t>(value.len // 2))
            unhex(value, out)
            self.take_arg(out, value.len // 2)
            at.bytes += value.len // 2
        elif value.len == 0 or span_is(value, b"(null)", 6):
            at.damaged = True
            return 0
        else:
            self.take_arg(value.ptr, value.len)
            at.bytes += value.len
        at.count += 1
        return 0

    cdef int argv_part(self, int64_t index, int64_t part, Span value, ArgvCursor *at) except -1:
        # aN[i]=: a long argument that the kernel split, each part in hex, or all in quotes where it is plain.
        cdef Span text = unquoted(value)
        cdef uint8_t *out
        if index != at.index:
            if at.index >= 0:
                self.argv_close(at)
            at.index = index
            at.parts = at.written = 0
            at.used = 0
            at.broken = part != 0
        if part != at.parts:
            at.damaged = True
        at.parts = part + 1
        at.written += text.len
        out = self.room(at.used + <size_t>text.len)
        if text.len != value.len:
            memcpy(out + at.used, text.ptr, <size_t>text.len)
            at.used += <size_t>text.len
        elif is_upper_hex(value):
            unhex(value, out + at.used)
            at.used += <size_t>(value.len // 2)
        else:
            at.damaged = True
        return 0

    cdef int argv_close(self, ArgvCursor *at) except -1:
        # End an argument of several parts.
        if at.index >= 0:
            if at.length >= 0 and at.length != at.written:
                at.damaged = True
            if not at.broken:
                self.take_arg(self.scratch, <Py_ssize_t>at.used)
                at.count += 1
                at.bytes += <int64_t>at.used
        at.index = at.length = -1
        return 0


def record_fields(bytes line):
    """The fields of one record's line as text, those inside msg='…' among them. For the cold paths."""
    cdef Span text = span_of(<const uint8_t *><const char *>line, len(line))
    cdef const uint8_t *p = text.ptr
    cdef Span key
    cdef Span value
    cdef dict fields = {}
    while next_field(&p, text.ptr + text.len, &key, &value):
        if span_is(key, b"msg", 3) and value.len and value.ptr[0] == c"'":
            p = value.ptr + 1
            continue
        bare = value.len and value.ptr[0] != c'"'
        value = stripped(value)
        if says_nothing(value):
            continue
        raw = bytes(value.ptr[:value.len])
        if bare and needs_decoding(key, 0, False) and is_upper_hex(value):
            raw = bytes.fromhex(raw.decode())
        fields[lossless(bytes(key.ptr[:key.len]))] = lossless(raw)
    return fields


cdef class EventDecoder(Reader):

    def __cinit__(self, Rules rules):
        self.exact = True
        self.args = []
        self.decoded_events = []

    def take(self):
        cdef list events = self.decoded_events
        self.decoded_events = []
        return events

    cdef int take_event(self, Event *event, Session *session) except -1:
        cdef Meaning m = self.meaning
        cdef str result
        cdef str ses = None
        self.read(event)
        self.mean()
        result = m.result or "unknown"
        if self.facts.known[F_SES].ptr is not NULL:
            ses = self.known_text(F_SES)
            if ses == "4294967295" or ses == "-1":
                ses = "unset"
        if self.facts.failed:
            result = ses = ""
        what = {"type": m.object_type, "primary": m.primary, "secondary": m.secondary}
        self.decoded_events.append((event.offset, events.DecodedEvent(
            seq=event.seq, ts=event.ts_ms, type=self.type_name(), ses=ses or "", result=result, action=m.action,
            how=m.how, object={key: value for key, value in what.items() if value}, process=self.process(),
            records=event.records)))
        return 0

    cdef int take_arg(self, const uint8_t *p, Py_ssize_t len) except -1:
        self.args.append(self.plain(p, len))
        return 0

    cdef dict process(self):
        cdef dict process = {}
        cdef int64_t argc = 0
        cdef bint whole = True
        cdef Field *field
        cdef bytes key
        for name, key in (("pid", b"pid"), ("ppid", b"ppid"), ("title", b"proctitle"), ("name", b"comm"),
                          ("exe", b"exe"), ("cwd", b"cwd")):
            field = self.find(span_of(<const uint8_t *><const char *>key, len(key)))
            if field is not NULL:
                process[name] = self.field_text(field)
        if self.facts.has_argv:
            self.args = []
            if self.read_argv(&argc, &whole):
                process["args"] = self.args
        return process
