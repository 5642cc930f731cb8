# What a whole audit event says: its fields, and by the rules of audito/tables what was done, how, and to what.
#
# Everything here borrows from the Event that is being read and is valid until take_event() returns;
# what Python gets is a copy.

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from audito._fastparse cimport EventSink
from audito._fields cimport F_KNOWN_MAX
from audito._redact cimport Finder
from audito._scan cimport Span
from audito._sessions cimport Event, Record

cdef enum:
    FIELDS_MAX = 512                # fields of one event that are looked at; the longest seen have 130
    PATHS_MAX = 64                  # PATH records of one event that are looked at
    FIELD_NAMES_MAX = 6             # alternatives that a rule names for one value
    ARGS_MAX = 131072               # arguments that are listed; past that argv is incomplete
    ARGV_BYTES_MAX = 1 << 20        # bytes of argv that are listed, decoded
    SYSCALLS_KEPT = 1024            # syscalls whose name and row are at hand; a power of two
    WORDS = 1024                    # short texts kept for reuse; a power of two
    WORD_BYTES_MAX = 54             # with which a Word is a cache line
    NESTING_MAX = 4                 # msg='… msg=…'

cdef enum:                          # Directory: that which no argument names
    AT_CWD = -1
    AT_UNKNOWN = -2

cdef struct Field:
    Span key
    Span value                      # without quotes and blanks around it
    uint16_t type                   # of its record
    bint bare                       # written without quotes: hex is an encoding here
    bint side                       # a *uid or *gid of the main record: looked up last


# One event, read. Reset for each; the arrays are used up to their counts.
cdef struct Facts:
    Event *event
    Record *main                    # the SYSCALL of several, else the first
    bint failed                     # main is void in go-libaudit's eyes; only where the reader is exact
    uint16_t type                   # number that names the event
    uint16_t known_types[F_KNOWN_MAX]   # type of the record that each is from
    Span known[F_KNOWN_MAX]         # raw values, quotes and all; ptr NULL where absent
    uint16_t field_count
    uint16_t path_count
    Field fields[FIELDS_MAX]
    Record *paths[PATHS_MAX]
    Record *address                 # the SOCKADDR
    bint has_argv
    Span avc_result                 # denied, granted
    Span tty                        # of a SYSCALL that read_syscall() read
    int64_t pid                     # of whom the main record is about, and its parent; below 0: not told
    int64_t ppid


cdef struct FieldNames:
    int count
    Span name[FIELD_NAMES_MAX]


# Where the reader of EXECVE records stands: a long argument spans fields, and records.
cdef struct ArgvCursor:
    int64_t argc                    # as the kernel counted, -1: not read yet
    int64_t next                    # the number that the next argument must have
    int64_t index                   # of the argument whose parts are being joined, -1: none
    int64_t parts                   # parts joined so far: the next must have this number
    int64_t count                   # arguments listed
    int64_t bytes                   # of them
    int64_t length                  # what aN_len= says that the parts come to, as written; -1: not said
    int64_t written                 # what they came to so far
    size_t used                     # bytes of the joined parts, in the reader's scratch
    bint broken                     # its beginning is missing: it is not listed
    bint damaged                    # something is missing or was cut, of any argument



cdef FieldNames field_names(names, list keep) except *


cdef class Action:
    # One row of tables/actions.py.
    cdef readonly str action
    cdef readonly str object_type
    cdef FieldNames when
    cdef FieldNames primary
    cdef FieldNames secondary
    cdef FieldNames how
    cdef int path_index             # -1: the object is no file
    cdef bint socket
    cdef list keep                  # owns the bytes that the FieldNames point into


cdef class Names:
    # Against what the names of a syscall's PATH records are relative, and which is the second one.
    cdef int at                     # argument with the directory of the object's name, or of enum Directory
    cdef int at_second              # … and of the second one
    cdef bytes second               # its nametype, b"": there is none


cdef class Meaning:
    # What was done, as Python text; None where the event does not say.
    cdef public str action, how, object_type, primary, secondary, result


cdef class Rules:
    # The tables, ready for lookups by number.
    cdef dict record_actions        # type number → tuple of Action
    cdef dict syscall_actions       # name → Action
    cdef object syscall_name        # (arch, number) → name or None
    cdef int64_t kept_keys[SYSCALLS_KEPT]   # arch << 32 | number of …
    cdef list kept                  # (name, Action or None, Names or None) of the syscalls met last, direct mapped
    cdef readonly dict type_names   # number → name
    cdef tuple interpreters
    cdef tuple interpreter_bytes

    cdef dict names                 # syscall name → Names
    cdef tuple socketcall           # the same three of socketcall itself
    cdef dict socketcalls           # first argument of socketcall → those of what is meant

    cdef tuple syscall_of(self, Facts *facts)
    cdef tuple meant_by(self, tuple syscall, Facts *facts)


# A short text with its object, which is not looked at to find it: an event asks for eight of them, and each stood in four
# lines of memory.
cdef struct Word:
    PyObject *text                  # owned; NULL: there is none
    uint8_t danger
    uint8_t len
    uint8_t bytes[WORD_BYTES_MAX]


cdef class Reader(EventSink):
    # Reads an event into Facts and Meaning; its subclasses make something of them.
    cdef Rules rules
    cdef Facts facts
    cdef str exe                    # text of exe, None: not made yet
    cdef Meaning meaning
    cdef bint want_tty              # of events that their SYSCALL names
    cdef bint exact                 # text as go-libaudit prints it, for comparison: see text_of
    cdef uint8_t *scratch           # for decoded text
    cdef size_t scratch_size
    cdef Word *words                # WORDS short texts that were made last, direct mapped
    cdef Finder finder              # of secrets; None: nothing is redacted
    cdef int danger                 # the greatest Danger of this event's texts

    cdef int read(self, Event *event) except -1
    cdef bint is_void(self, uint16_t type) except -1
    cdef void read_cwd(self, Span text) noexcept nogil
    cdef bint is_plain(self) noexcept nogil
    cdef void read_syscall(self, Span text) noexcept nogil
    cdef bint is_login_user(self) noexcept nogil
    cdef int read_record(self, Record *record, bint main) except -1
    cdef int read_fields(self, Span text, uint16_t type, bint main, int depth) except -1
    cdef bint counts(self, int known, bint main, int depth, bint behind) noexcept nogil
    cdef Span message(self, Span value, const uint8_t *end) noexcept nogil
    cdef void last_wins(self, uint16_t first) noexcept nogil
    cdef const uint8_t *read_avc(self, Span text) noexcept nogil
    cdef Field *find(self, Span name) noexcept nogil
    cdef Field *first_of(self, FieldNames *names) noexcept nogil
    cdef str field_text(self, Field *field)
    cdef str known_text(self, int field)
    cdef str value_text(self, Span value, bint encoded)
    cdef str decoded(self, Span hex)
    cdef int danger_of(self, const uint8_t *p, Py_ssize_t len) except -1
    cdef PyObject *word(self, const uint8_t *p, Py_ssize_t len) noexcept
    cdef void keep_word(self, text, const uint8_t *p, Py_ssize_t len, int danger) noexcept
    cdef str plain(self, const uint8_t *p, Py_ssize_t len)
    cdef void forget_words(self) noexcept
    cdef uint8_t *room(self, size_t size) except NULL
    cdef int mean(self) except -1
    cdef str default_how(self)
    cdef bint is_interpreter(self, Span exe) except -1
    cdef str exe_text(self)
    cdef str named_text(self, Field *field, tuple syscall)
    cdef int mean_unknown(self, tuple syscall) except -1
    cdef int mean_file(self, int path_index, Names names) except -1
    cdef int mean_second(self, int first, Names names) except -1
    cdef str path_text(self, Span name, int at)
    cdef str relative_text(self, Span text, bint encoded, int at)
    cdef bytes working_directory(self)
    cdef bytes bytes_of(self, Span value, bint encoded)
    cdef int mean_socket(self) except -1
    cdef str unix_path(self, uint8_t *raw, Py_ssize_t size)
    cdef str result(self)
    cdef int read_argv(self, int64_t *argc, bint *whole) except -1
    cdef int take_arg(self, const uint8_t *p, Py_ssize_t len) except -1
    cdef int argv_record(self, Span body, ArgvCursor *at) except -1
    cdef const uint8_t *plain_args(self, const uint8_t *p, const uint8_t *end, ArgvCursor *at) except NULL
    cdef int argv_add(self, Span value, ArgvCursor *at) except -1
    cdef int argv_part(self, int64_t index, int64_t part, Span value, ArgvCursor *at) except -1
    cdef int argv_close(self, ArgvCursor *at) except -1
    cdef str type_name(self)


cdef class EventDecoder(Reader):
    # Makes what `audito decode` prints of each event.
    cdef list decoded_events
    cdef list args                  # of the event in hand

    cdef dict process(self)
