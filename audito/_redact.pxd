# Finds secrets in command lines by the rows of tables/secrets.py: names, flags of programs, URLs.
#
# It borrows the bytes it reads for the call; what it finds are spans, offsets into the text that was given. All of it
# is one pass over the text, and one more for each level of quotes in quotes, of which there are at most NESTING_MAX.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from audito._needles cimport Needles
from audito._scan cimport Span

cdef enum:
    NESTING_MAX = 3             # quotes in quotes that are looked into
    NAME_BYTES_MAX = 64         # of a name, from its end, that are looked at
    WORD_BYTES_MAX = 24         # of programs and their commands; the longest has 19
    WORD_PLACES = 2048          # a power of two, four times the words
    FLAGS_MAX = 256             # of all programs
    PROGRAMS_MAX = 64           # rows
    NAMES_MAX = 256             # endings and words of all rows, and names of the configuration
    SUBS_MAX = 31               # commands of programs
    BLANKS_MAX = 8              # between a name, its mark and its value

cdef enum Danger:
    HARMLESS                    # whatever stands beside it
    CONTEXT                     # its neighbours in an argv decide
    SECRET                      # it has to be looked at closely

cdef enum NameKind:
    NAME_ENDING                 # the name ends so, its marks left out
    NAME_WORD                   # its last word
    NAME_LATER                  # its last word, and not the first
    NAME_OWN                    # the name, or its last words, marks and digits and all
    NAME_NO_SECRET              # as NAME_ENDING: there is no secret, whatever else fits


cdef struct NameRule:
    uint8_t text[NAME_BYTES_MAX]
    uint16_t len
    int kind
    int row


cdef struct FlagRule:
    Span word
    Span after                  # the secret is what follows this in the value; len 0: all of it
    bint joined
    bint apart
    bint is_long                # begins with two dashes: a joined value has a `=`
    uint8_t letter              # of a flag of one letter, else 0
    uint64_t cluster[2]         # bytes below 128 that may stand between dash and letter, as bits
    uint32_t sub                # bit of the command behind which it counts; 0: anywhere


cdef struct ProgramRule:
    int row
    int first_flag
    int flag_count
    bint leading                # its flags end at the first word that is none
    bint account                # a plain word NAME/SECRET[@…] holds a secret


cdef struct Word:               # a word that means something by itself; len 0: a free place
    uint8_t text[WORD_BYTES_MAX]
    uint16_t len
    int program                 # its rule, -1: none
    bint is_switch              # of this program `--password` takes no value
    uint32_t sub                # its bit, 0: no command of any program


cdef struct Found:
    Py_ssize_t text             # number of the text
    Py_ssize_t start
    Py_ssize_t end
    int row


cdef struct Line:               # one command line, as far as its words went by
    Py_ssize_t text
    bint is_shell               # read as a shell does: values may stand in quotes
    bint before_script          # the last word was a `-c`: the next is no value
    bint before_header          # … a `-H`
    bint is_switch
    int program                 # rule of the program that runs, -1: none
    uint32_t seen               # commands since it
    int wanted                  # row whose secret the next word is, -1: none
    Span after
    bint no_dash                # … unless it begins with a dash


cdef class Finder:
    cdef NameRule names[NAMES_MAX]
    cdef int name_count
    cdef bint is_last[256]      # bytes that a name with a secret can end in
    cdef NameRule switches[32]
    cdef int switch_count
    cdef FlagRule flags[FLAGS_MAX]
    cdef int flag_count
    cdef ProgramRule programs[PROGRAMS_MAX]
    cdef int program_count
    cdef Word words[WORD_PLACES]
    cdef int url_row            # -1: switched off
    cdef int header_row         # the row whose value begins with a scheme; -1: off
    cdef Span scheme_spans[16]
    cdef int scheme_count
    cdef dict subs              # command → bit
    cdef list keep              # owns the bytes that spans of rules point into
    cdef Found *found           # owned
    cdef Py_ssize_t found_count
    cdef Py_ssize_t found_room
    cdef bint failed            # no memory for one more
    cdef readonly Needles needles   # of all rows: a text without one is harmless
    cdef Needles shape_needles  # of what is known by its form
    cdef object own_search      # (bytes) → whether a pattern of the configuration matches; None: there is none

    cdef int danger(self, const uint8_t *p, Py_ssize_t len) except -1
    cdef bint holds(self, list args) except -1
    cdef void read_arg(self, Line *line, const uint8_t *raw, Py_ssize_t size, Py_ssize_t number) noexcept nogil
    cdef void read_text(self, const uint8_t *raw, Py_ssize_t size) noexcept nogil
    cdef Span kept(self, bytes text)
    cdef int add_name(self, bytes text, int kind, int row) except -1
    cdef int add_program(self, object row, int number) except -1
    cdef uint32_t sub_of(self, str name) except 0
    cdef Word *place(self, Span word) noexcept nogil
    cdef Word *add_word(self, bytes text) except NULL
    cdef void hide(self, Py_ssize_t text, Py_ssize_t start, Py_ssize_t end, int row) noexcept nogil
    cdef int row_of(self, const uint8_t *name, Py_ssize_t len) noexcept nogil
    cdef bint takes_none(self, const uint8_t *name, Py_ssize_t len) noexcept nogil
    cdef void read_line(self, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, Py_ssize_t text, int depth) noexcept nogil
    cdef void shell_word(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, Py_ssize_t line_end,
                         int depth) noexcept nogil
    cdef void read_quotes(self, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, Py_ssize_t text,
                          int depth) noexcept nogil
    cdef void word(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, bint is_value) noexcept nogil
    cdef bint flag(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil
    cdef bint named(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, bint in_header) noexcept nogil
    cdef void plain(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil
    cdef void account(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil
    cdef void hide_value(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, int row,
                         Span after) noexcept nogil
    cdef Py_ssize_t past_scheme(self, const uint8_t *raw, Py_ssize_t at, Py_ssize_t end) noexcept nogil
    cdef void find_pairs(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t text, bint is_value) noexcept nogil
    cdef Py_ssize_t pair(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t start, Py_ssize_t name, Py_ssize_t at,
                         Py_ssize_t text, bint is_value) noexcept nogil
    cdef Py_ssize_t quoted_value(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t start, Py_ssize_t quote,
                                 Py_ssize_t text, int row) noexcept nogil
    cdef Py_ssize_t header_end(self, const uint8_t *raw, Py_ssize_t at, Py_ssize_t len) noexcept nogil
    cdef void find_urls(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t text) noexcept nogil
    cdef list spans(self)
