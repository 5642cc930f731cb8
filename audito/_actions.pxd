# The UserAction of an event, written as a line of JSON.
#
# Of a line's texts nearly all are plain, and are copied; msgspec writes those that need an escape, and what was constant
# in the session is its work, too. Nothing here becomes an object that the event did not need before.

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

from audito._normalise cimport FieldNames, Meaning, Reader
from audito._put cimport Key
from audito._processes cimport Process, Processes
from audito._scan cimport Span
from audito._sessions cimport Event, Session

cdef enum:
    FRAME_PARTS = 7                 # of a UserAction's line: the constant texts between its six variable ones
    LINES_BYTES_MIN = 4096
    LINES_BYTES_KEPT = 4 << 20      # no more is made at once because the last lines (a huge argv) took it
    TIME_TEXT_BYTES = 24            # 2026-11-23T07:00:00.000Z
    CORRELATIONS = 4                # events.CORRELATIONS, by session.correlation
    FILTER_FIELDS = 4               # exe, key, uid, subjects: what costs something to find out
    PRIVILEGE_NAME_MAX = 8          # bytes of a name in PRIVILEGE_PROGRAMS


cdef class ActionBuilder(Reader):
    # Writes a UserAction of each event as a line of JSON, and what it is given in its place between these.
    cdef PyObject *lines            # bytes, owned, which nobody else has: JSON lines that are made and not taken yet, …
    cdef size_t used                # … up to so many bytes, …
    cdef size_t room                # … of so many; NULL while it is 0
    cdef size_t room_next           # of the next one: a little more than the last one took
    cdef bytearray encoded          # what msgspec made: it writes into nothing but a bytearray
    cdef list structs               # events that are no actions, to be written behind the lines; one batch is one call
    cdef list frame                 # owns the bytes that frame_parts and privileged point into
    cdef FieldNames privileged      # tables.programs.PRIVILEGE_PROGRAMS
    cdef Span frame_parts[FRAME_PARTS]  # events.action_frame(): what stands between a line's variable parts
    cdef Key correlations[CORRELATIONS]
    cdef object encode_into         # of msgspec's encoder
    cdef bint want_actions, want_context, want_parent, want_ancestors, want_container
    cdef Processes processes        # None: nothing of them is wanted
    cdef object container_of        # for them
    cdef uint64_t second            # the second that second_text shows
    cdef char second_text[80]       # 24 are used; the compiler counts with years of ten digits
    cdef readonly uint64_t args_incomplete
    cdef object redactor            # hides the secrets of an event that has some; None: nothing is redacted
    cdef object filters             # decides which actions are written; None: all
    cdef bint filter_asks[FILTER_FIELDS]    # which of an action's facts a filter asks for

    cdef bint failed(self)
    cdef bint is_dropped(self, Session *session) except -1
    cdef Process *process(self, Event *event) except? NULL
    cdef int write_action(self, Event *event, Session *session) except -1
    cdef int write_extra(self, Event *event, Session *session, bint failed) except -1
    cdef int write_object(self, Meaning meaning) except -1
    cdef int write_args(self, bint failed) except -1
    cdef int write_rule_key(self) except -1
    cdef int write_user(self) except -1
    cdef int write_privilege(self) except -1
    cdef bint is_after_logout(self, Event *event, Session *session) noexcept
    cdef int write_context(self, Process *process) except -1
    cdef Span tty(self) noexcept
    cdef int hide_secrets(self, size_t start) except -1
    cdef int write_structs(self) except -1
    cdef uint8_t *line_room(self, size_t more) except NULL
    cdef uint8_t *at(self, size_t offset) noexcept nogil
    cdef int grow(self, size_t more) except -1
    cdef int put_raw(self, const char *text, size_t len) except -1
    cdef int put_key(self, const Key *key) except -1
    cdef int put_byte(self, uint8_t byte) except -1
    cdef int put_part(self, Span text) except -1
    cdef int begin(self, size_t at, uint8_t bracket) except -1
    cdef int put_int(self, const Key *key, int64_t value) except -1
    cdef int put_text(self, const Key *key, str text) except -1
    cdef int put_value(self, const Key *key, const uint8_t *p, Py_ssize_t len) except -1
    cdef int put_known(self, const Key *key, int field) except -1
    cdef int put_field(self, const Key *key, const char *name, Py_ssize_t len) except -1
    cdef int encode(self, object value) except -1
    cdef const char *time_text(self, uint64_t ts_ms) noexcept nogil
