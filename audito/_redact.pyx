"""Finds secrets in command lines: names, flags of programs, URLs. See _redact.pxd."""

from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from audito._needles cimport Needles
from audito._scan cimport Span, lower, span_of

from audito.text import original

cdef extern from "string.h" nogil:
    void *memmem(const void *haystack, size_t haystack_len, const void *needle, size_t needle_len)

cdef extern from "Python.h":
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyUnicode_IS_ASCII(object text)

cdef Span NOTHING
NOTHING.ptr = NULL
NOTHING.len = 0

# ---------------------------------------------------------------------------------------------- leaves


cdef inline bint is_letter(uint8_t c) noexcept nogil:
    return c'a' <= (c | 0x20) <= c'z' or c == c'_'


cdef inline bint is_name_byte(uint8_t c) noexcept nogil:
    return is_letter(c) or c'0' <= c <= c'9' or c == c'-' or c == c'.'


cdef inline bint is_space(uint8_t c) noexcept nogil:
    return c == c' ' or 9 <= c <= 13


cdef inline bint is_cut(uint8_t c) noexcept nogil:
    # What ends a command in a shell.
    return (c == c';' or c == c'|' or c == c'&' or c == c'(' or c == c')' or c == c'<' or c == c'>' or c == c'`'
            or c == c'\n' or c == c'\r')


cdef inline bint is_quote(uint8_t c) noexcept nogil:
    return c == c'"' or c == c"'"


cdef inline bint starts_with(Span word, Span start) noexcept nogil:
    # Flags differ in their last byte: most are told apart without a call.
    return word.len >= start.len and word.ptr[start.len - 1] == start.ptr[start.len - 1] and memcmp(
        word.ptr, start.ptr, <size_t>start.len) == 0


cdef inline bint ends_with(const uint8_t *text, Py_ssize_t len, const NameRule *rule) noexcept nogil:
    return len >= rule.len and memcmp(text + len - rule.len, rule.text, rule.len) == 0


cdef inline uint32_t word_hash(Span word) noexcept nogil:
    cdef uint32_t h = 2166136261u
    cdef Py_ssize_t i
    for i in range(word.len):
        h = (h ^ word.ptr[i]) * 16777619u
    return (h ^ h >> 15) & (WORD_PLACES - 1)


cdef inline Py_ssize_t closing(const uint8_t *raw, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    # Where the quote at `at` is closed, -1 where it is not. A backslash counts in double quotes only.
    cdef uint8_t quote = raw[at]
    at += 1
    while at < end:
        if raw[at] == quote:
            return at
        at += 2 if raw[at] == c'\\' and quote == c'"' else 1
    return -1


cdef inline bint is_quoted(const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    # Whether one pair of quotes stands around all of it.
    return end - start >= 2 and is_quote(raw[start]) and closing(raw, start, end) == end - 1


cdef inline bint has_words(const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    while start < end:
        if is_space(raw[start]) or raw[start] == c';' or raw[start] == c'|' or raw[start] == c'&':
            return True
        start += 1
    return False


cdef inline bint is_option(Span word) noexcept nogil:
    # What a value is not, although its flag wants one: `-x`, `--word`, `--word=…`. A password may begin with a dash.
    cdef Py_ssize_t i = 2
    if word.len < 2 or word.ptr[0] != c'-':
        return False
    if word.len == 2:
        return is_letter(word.ptr[1])
    if word.ptr[1] != c'-' or not is_letter(word.ptr[2]):
        return False
    while i < word.len and is_name_byte(word.ptr[i]):
        i += 1
    return i == word.len or word.ptr[i] == c'='


cdef inline bint is_script_flag(Span word) noexcept nogil:
    # `-c`, `-lc`: behind it stands a script.
    cdef Py_ssize_t i
    if word.len < 2 or word.ptr[0] != c'-' or word.ptr[word.len - 1] != c'c':
        return False
    for i in range(1, word.len):
        if not is_letter(word.ptr[i]):
            return False
    return True


cdef inline bint is_port(const uint8_t *p, Py_ssize_t len) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(len):
        if not c'0' <= p[i] <= c'9':
            return False
    return len <= 5


cdef void start_line(Line *line, Py_ssize_t text, bint is_shell) noexcept nogil:
    # Another command begins.
    memset(line, 0, sizeof(Line))
    line.text = text
    line.is_shell = is_shell
    line.program = line.wanted = -1


# ----------------------------------------------------------------------------------------------- rules

cdef class Finder:

    def __cinit__(self, rows, names, own_row, no_secrets, switch_words, switch_programs, schemes, url_row, header_row,
                  Needles needles not None, Needles shape_needles not None, own_search=None):
        cdef bytes text
        self.needles = needles
        self.shape_needles = shape_needles
        self.own_search = own_search
        self.keep = []
        self.subs = {}
        self.url_row = url_row
        self.header_row = header_row
        for endings in no_secrets:
            self.add_name(endings.encode(), NAME_NO_SECRET, 0)
        for name in names:
            self.add_name(name.encode().replace(b"-", b"_").replace(b".", b"_"), NAME_OWN, own_row)
        for number, row in rows:
            if hasattr(row, "endings"):
                for kind, texts in ((NAME_WORD, row.words), (NAME_LATER, row.later), (NAME_ENDING, row.endings)):
                    for name in texts:
                        self.add_name(name.encode(), kind, number)
            elif hasattr(row, "programs"):
                self.add_program(row, number)
        for name in switch_words:
            text = name.encode()
            memcpy(self.switches[self.switch_count].text, <const char *>text, <size_t>len(text))
            self.switches[self.switch_count].len = <uint16_t>len(text)
            self.switch_count += 1
        for name in switch_programs:
            self.add_word(name.encode()).is_switch = True
        for name in schemes:
            self.scheme_spans[self.scheme_count] = self.kept(name.encode())
            self.scheme_count += 1

    def __dealloc__(self):
        free(self.found)

    cdef Span kept(self, bytes text):
        self.keep.append(text)
        return span_of(<const uint8_t *><const char *>text, len(text))

    cdef int add_name(self, bytes text, int kind, int row) except -1:
        cdef NameRule *rule
        if self.name_count == NAMES_MAX or not 0 < len(text) < NAME_BYTES_MAX:
            raise ValueError(f"one name too many, or too long: {text!r}")
        rule = &self.names[self.name_count]
        memcpy(rule.text, <const char *>text, <size_t>len(text))
        rule.len = <uint16_t>len(text)
        rule.kind = kind
        rule.row = row
        self.is_last[<uint8_t>text[len(text) - 1]] = True
        self.name_count += 1
        return 0

    cdef int add_program(self, object row, int number) except -1:
        cdef ProgramRule *program
        cdef FlagRule *rule
        cdef Word *word
        cdef uint8_t c
        if self.program_count == PROGRAMS_MAX or self.flag_count + len(row.flags) > FLAGS_MAX:
            raise ValueError(f"one program too many: {row.name}")
        program = &self.programs[self.program_count]
        program.row = number
        program.first_flag = self.flag_count
        program.flag_count = <int>len(row.flags)
        program.leading = row.leading
        program.account = row.account
        for flag in row.flags:
            rule = &self.flags[self.flag_count]
            memset(rule, 0, sizeof(FlagRule))
            rule.word = self.kept(flag.word.encode())
            rule.after = self.kept(flag.after.encode())
            rule.joined = flag.joined
            rule.apart = flag.apart
            rule.is_long = flag.word.startswith("--")
            if len(flag.word) == 2 and flag.word[0] == "-":
                rule.letter = <uint8_t>ord(flag.word[1])
            for c in flag.cluster.encode():
                rule.cluster[c >> 6] |= <uint64_t>1 << (c & 63)
            if flag.sub:
                rule.sub = self.sub_of(flag.sub)
            if not flag.word.startswith("-"):
                self.add_word(flag.word.encode())
            self.flag_count += 1
        for name in row.programs:
            word = self.add_word(name.encode())
            word.program = self.program_count
        self.program_count += 1
        return 0

    cdef uint32_t sub_of(self, str name) except 0:
        # The bit of a program's command.
        cdef Word *word = self.add_word(name.encode())
        if word.sub == 0:
            if len(self.subs) == SUBS_MAX:
                raise ValueError(f"one command too many: {name}")
            self.subs[name] = 1 << len(self.subs)
            word.sub = self.subs[name]
        return word.sub

    cdef Word *add_word(self, bytes text) except NULL:
        cdef Word *word
        if not 0 < len(text) <= WORD_BYTES_MAX:
            raise ValueError(f"a word of 1 to {WORD_BYTES_MAX} bytes: {text!r}")
        word = self.place(span_of(<const uint8_t *><const char *>text, len(text)))
        if word.len == 0:
            memcpy(word.text, <const char *>text, <size_t>len(text))
            word.len = <uint16_t>len(text)
            word.program = -1
        return word

    cdef Word *place(self, Span text) noexcept nogil:
        # Where a word is, or would be. Three of four places are free: the search ends.
        cdef uint32_t at = word_hash(text)
        while self.words[at].len and not (self.words[at].len == text.len
                                          and memcmp(self.words[at].text, text.ptr, <size_t>text.len) == 0):
            at = (at + 1) & (WORD_PLACES - 1)
        return &self.words[at]

    # -------------------------------------------------------------------------------- what is asked

    cdef int danger(self, const uint8_t *p, Py_ssize_t len) except -1:
        # The Danger of one text. It has already been seen that a needle is in it, or that there are own patterns.
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t name = len
        if self.own_search is not None and self.own_search(p[:len]):
            return SECRET
        if not self.needles.has(p, len):
            return HARMLESS
        self.found_count = 0
        self.read_text(p, len)
        if self.found_count or self.shape_needles.next(p, len, 0, &at) >= 0:
            return SECRET
        if p[0] == c'-' or memchr(p, c'=', <size_t>len) is not NULL or memchr(p, c':', <size_t>len) is not NULL:
            return CONTEXT
        while name and p[name - 1] != c'/' and len - name < WORD_BYTES_MAX:
            name -= 1
        return CONTEXT if self.place(span_of(p + name, len - name)).len else HARMLESS

    cdef bint holds(self, list args) except -1:
        # Whether one of a command's arguments is, or holds, a secret that the others make it.
        cdef Line line
        cdef Py_ssize_t i
        cdef bytes raw
        cdef const uint8_t *p
        cdef Py_ssize_t size
        self.found_count = 0
        start_line(&line, 0, False)
        for i in range(len(args)):
            text = args[i]
            p = <const uint8_t *>PyUnicode_DATA(text)
            size = PyUnicode_GET_LENGTH(text)
            if not PyUnicode_IS_ASCII(text) or memchr(p, c'\\', <size_t>size) is not NULL:
                raw = original(text)
                p = <const uint8_t *><const char *>raw
                size = len(raw)
            if self.needles.has(p, size):
                self.read_arg(&line, p, size, i)
            else:
                self.word(&line, p, 0, size, not line.before_script)
            if self.found_count:
                return True
        return False

    def in_text(self, bytes text not None):
        self.found_count = 0
        self.read_text(<const uint8_t *><const char *>text, len(text))
        return self.spans()

    def in_args(self, list args not None):
        cdef Line line
        cdef Py_ssize_t i
        cdef bytes arg
        self.found_count = 0
        start_line(&line, 0, False)
        for i in range(len(args)):
            arg = args[i]
            self.read_arg(&line, <const uint8_t *><const char *>arg, len(arg), i)
        return self.spans()

    cdef void read_text(self, const uint8_t *raw, Py_ssize_t size) noexcept nogil:
        self.read_line(raw, 0, size, 0, 0)
        self.find_pairs(raw, size, 0, False)
        self.find_urls(raw, size, 0)

    cdef void read_arg(self, Line *line, const uint8_t *raw, Py_ssize_t size, Py_ssize_t number) noexcept nogil:
        cdef bint is_value = not line.before_script
        line.text = number
        self.word(line, raw, 0, size, is_value)
        if has_words(raw, 0, size):
            self.read_line(raw, 0, size, number, 1)
        self.find_pairs(raw, size, number, is_value)
        self.find_urls(raw, size, number)

    cdef list spans(self):
        cdef Py_ssize_t i
        if self.failed:
            self.failed = False
            raise MemoryError()
        return [(self.found[i].text, self.found[i].start, self.found[i].end, self.found[i].row)
                for i in range(self.found_count)]

    cdef void hide(self, Py_ssize_t text, Py_ssize_t start, Py_ssize_t end, int row) noexcept nogil:
        cdef Found *grown
        cdef Py_ssize_t room
        if start >= end:
            return
        if self.found_count == self.found_room:
            room = self.found_room * 2 + 16
            grown = <Found *>realloc(self.found, <size_t>room * sizeof(Found))
            if grown is NULL:
                self.failed = True
                return
            self.found = grown
            self.found_room = room
        self.found[self.found_count].text = text
        self.found[self.found_count].start = start
        self.found[self.found_count].end = end
        self.found[self.found_count].row = row
        self.found_count += 1

    # -------------------------------------------------------------------------------- names

    cdef int row_of(self, const uint8_t *name, Py_ssize_t len) noexcept nogil:
        # The row that a name belongs to, -1 where its value is no secret.
        cdef uint8_t marked[NAME_BYTES_MAX]     # in lower case, its marks all `_`
        cdef uint8_t joined[NAME_BYTES_MAX]     # without them
        cdef Py_ssize_t size, i, last
        cdef Py_ssize_t joined_size = 0
        cdef NameRule *rule
        cdef int found = -1
        if len < 3:
            return -1
        if len > NAME_BYTES_MAX:
            name += len - NAME_BYTES_MAX
            len = NAME_BYTES_MAX
        for i in range(len):
            marked[i] = c'_' if name[i] == c'-' or name[i] == c'.' else lower(name[i])
        size = len
        while size and (c'0' <= marked[size - 1] <= c'9' or marked[size - 1] == c'_'):
            size -= 1
        if not (self.is_last[marked[len - 1]] or (size and self.is_last[marked[size - 1]])):
            return -1
        last = size
        while last and marked[last - 1] != c'_':
            last -= 1
        for i in range(size):
            if marked[i] != c'_':
                joined[joined_size] = marked[i]
                joined_size += 1
        for i in range(self.name_count):
            rule = &self.names[i]
            if rule.kind == NAME_NO_SECRET:
                if ends_with(joined, joined_size, rule):
                    return -1
            elif rule.kind == NAME_ENDING:
                if found < 0 and ends_with(joined, joined_size, rule):
                    found = rule.row
            elif rule.kind == NAME_OWN:
                if ends_with(marked, len, rule) and (len == rule.len or marked[len - rule.len - 1] == c'_'):
                    return rule.row
            elif size - last == rule.len and memcmp(marked + last, rule.text, rule.len) == 0:
                if rule.kind == NAME_WORD or last > 0:
                    return rule.row
        return found

    cdef bint takes_none(self, const uint8_t *name, Py_ssize_t len) noexcept nogil:
        # Whether a flag with the name of a secret has no value: one of its words but the last is a switch's.
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t i
        cdef int n
        for i in range(len):
            if name[i] == c'-' or name[i] == c'_' or name[i] == c'.':
                for n in range(self.switch_count):
                    if i - start == self.switches[n].len and memcmp(
                            name + start, self.switches[n].text, self.switches[n].len) == 0:
                        return True
                start = i + 1
        return False

    # -------------------------------------------------------------------------------- words

    cdef void read_line(self, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, Py_ssize_t text, int depth) noexcept nogil:
        # The words of a text that a shell would read, near enough: a quote that is never closed is a letter.
        cdef Line line
        cdef Py_ssize_t at = start
        cdef Py_ssize_t word, close
        cdef bint open_single = False           # no more of these are closed: looking once is enough
        cdef bint open_double = False
        start_line(&line, text, True)
        while at < end:
            if is_cut(raw[at]):
                start_line(&line, text, True)
                at += 1
                continue
            if is_space(raw[at]):
                at += 1
                continue
            word = at
            while at < end and not is_space(raw[at]) and not is_cut(raw[at]):
                if raw[at] == c'\\' and at + 1 < end:
                    at += 2
                    continue
                if (raw[at] == c'"' and not open_double) or (raw[at] == c"'" and not open_single):
                    close = closing(raw, at, end)
                    if close >= 0:
                        at = close
                    elif raw[at] == c'"':
                        open_double = True
                    else:
                        open_single = True
                at += 1
            self.shell_word(&line, raw, word, at, end, depth)

    cdef void shell_word(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, Py_ssize_t line_end,
                         int depth) noexcept nogil:
        cdef Py_ssize_t first = self.found_count
        cdef Py_ssize_t i
        cdef Found *found
        if is_quoted(raw, start, end):
            self.word(line, raw, start + 1, end - 1, not line.before_script)
        else:
            self.word(line, raw, start, end, True)
            for i in range(first, self.found_count):
                found = &self.found[i]
                if not is_quote(raw[found.start]):
                    continue
                if closing(raw, found.start, end) < 0:
                    found.end = line_end        # nobody knows where it ends
                elif found.end - found.start > 2 and is_quoted(raw, found.start, found.end):
                    found.start += 1
                    found.end -= 1
        if depth < NESTING_MAX:
            self.read_quotes(raw, start, end, line.text, depth)

    cdef void read_quotes(self, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, Py_ssize_t text,
                          int depth) noexcept nogil:
        # What is in the quotes of a word may be a command line, too.
        cdef Py_ssize_t close
        cdef bint open_single = False
        cdef bint open_double = False
        while start < end:
            if raw[start] == c'\\':
                start += 2
                continue
            if (raw[start] == c'"' and not open_double) or (raw[start] == c"'" and not open_single):
                close = closing(raw, start, end)
                if close >= 0:
                    if has_words(raw, start + 1, close):
                        self.read_line(raw, start + 1, close, text, depth + 1)
                    start = close
                elif raw[start] == c'"':
                    open_double = True
                else:
                    open_single = True
            start += 1

    cdef void word(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, bint is_value) noexcept nogil:
        # The next word. `is_value`: it is one value, and not a script, whatever blanks are in it.
        cdef Span word = span_of(raw + start, end - start)
        cdef int wanted = line.wanted
        cdef bint in_header = line.before_header
        line.wanted = -1
        cdef bint is_flag = word.len > 0 and word.ptr[0] == c'-'
        if not line.no_dash:
            is_flag = is_option(word)
        if wanted >= 0 and not is_flag:
            line.before_script = line.before_header = False
            self.hide_value(line, raw, start, end, wanted, line.after)
            return
        line.before_header = (word.len == 2 and memcmp(word.ptr, b"-H", 2) == 0) or (
            word.len == 8 and memcmp(word.ptr, b"--header", 8) == 0)
        line.before_script = is_script_flag(word)
        if word.len == 0:
            return
        if (word.ptr[0] == c'-' or word.ptr[0] == c'/') and self.flag(line, raw, start, end):
            return
        if is_value and self.named(line, raw, start, end, in_header):
            return
        if word.ptr[0] != c'-':
            self.plain(line, raw, start, end)

    cdef bint flag(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        # Whether the word is a flag of the program that runs.
        cdef Span word = span_of(raw + start, end - start)
        cdef FlagRule *rule
        cdef Py_ssize_t at, i
        cdef int n
        if line.program < 0:
            return False
        for n in range(self.programs[line.program].flag_count):
            rule = &self.flags[self.programs[line.program].first_flag + n]
            if rule.sub and not rule.sub & line.seen:
                continue
            at = -1
            if starts_with(word, rule.word):
                at = rule.word.len
                if rule.is_long and at < word.len:
                    at = at + 1 if word.ptr[at] == c'=' else -1
            elif rule.letter and word.ptr[0] == c'-':
                i = 1
                while i < word.len and word.ptr[i] < 128 and rule.cluster[word.ptr[i] >> 6] >> (word.ptr[i] & 63) & 1:
                    i += 1
                if 1 < i < word.len and word.ptr[i] == rule.letter:
                    at = i + 1
            if at < 0:
                continue
            if at == word.len and not (rule.is_long and at > rule.word.len):
                if not rule.apart:
                    continue
                line.wanted = self.programs[line.program].row
                line.after = rule.after
                line.no_dash = False
            else:
                if not rule.joined:
                    continue
                self.hide_value(line, raw, start + at, end, self.programs[line.program].row, rule.after)
            return True
        return False

    cdef bint named(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, bint in_header) noexcept nogil:
        # Whether the word is `--NAME=…`, `--NAME`, `NAME=…`, or a header.
        cdef Py_ssize_t name = start
        cdef Py_ssize_t at, stop
        cdef int row
        cdef bint is_flag = raw[start] == c'-'
        while name < end and name < start + 2 and raw[name] == c'-':
            name += 1
        if name == end or not is_letter(raw[name]):
            return False
        at = name
        while at < end and is_name_byte(raw[at]):
            at += 1
        stop = at
        if at < end and raw[at] == c'[':            # NAME[key]=…
            while at < end and raw[at] != c']' and raw[at] != c'=':
                at += 1
            at += at < end and raw[at] == c']'
        if at == end and is_flag and at == stop:
            row = self.row_of(raw + name, stop - name)
            if row < 0:
                return False
            if not line.is_switch and not self.takes_none(raw + name, stop - name):
                line.wanted = row
                line.after = NOTHING
                line.no_dash = False
            return True
        if at < end and raw[at] == c'+':
            at += 1
        if at < end and raw[at] == c'=':
            if is_flag and stop - name == 6 and memcmp(raw + name, b"header", 6) == 0 and at + 1 < end:
                return self.named(line, raw, at + 1, end, True)
            row = self.row_of(raw + name, stop - name)
            if row < 0:
                return False
            at += 1
        elif stop < end and raw[stop] == c':' and (in_header or is_flag or (stop + 1 < end and is_space(raw[stop + 1]))):
            if is_flag and raw[name] == c'H':       # -HNAME: …
                name += 1
            row = self.row_of(raw + name, stop - name)
            if row < 0:
                return False
            at = stop + 1
            while at < end and is_space(raw[at]):
                at += 1
        else:
            return False
        if row == self.header_row:
            at = self.past_scheme(raw, at, end)
        self.hide(line.text, at, end, row)
        return True

    cdef void plain(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        # A word that is no flag: a program, a command of one, or an argument.
        cdef Span word = span_of(raw + start, end - start)
        cdef Py_ssize_t at = end
        cdef Word *known
        cdef FlagRule *rule
        cdef int n
        if line.program >= 0:
            for n in range(self.programs[line.program].flag_count):
                rule = &self.flags[self.programs[line.program].first_flag + n]
                if rule.word.len == word.len and starts_with(word, rule.word) and (
                        not rule.sub or rule.sub & line.seen):
                    line.wanted = self.programs[line.program].row
                    line.after = rule.after
                    line.no_dash = True
            if self.programs[line.program].account:
                self.account(line, raw, start, end)
            if self.programs[line.program].leading:
                line.program = -1
        while at > start and raw[at - 1] != c'/' and end - at <= WORD_BYTES_MAX:
            at -= 1
        if end - at > WORD_BYTES_MAX or at == end:
            return
        known = self.place(span_of(raw + at, end - at))
        if known.len == 0:
            return
        if known.program >= 0 or known.is_switch:
            line.program = known.program
            line.is_switch = known.is_switch
            line.seen = known.sub
        elif at == start:
            line.seen |= known.sub

    cdef void account(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        # NAME/SECRET[@…]: the name has neither blank nor @, the secret no @.
        cdef Py_ssize_t at = start
        cdef Py_ssize_t stop
        while at < end and raw[at] != c'/' and raw[at] != c'@' and not is_space(raw[at]):
            at += 1
        if at == start or at == end or raw[at] != c'/':
            return
        stop = at + 1
        while stop < end and raw[stop] != c'@':
            stop += 1
        self.hide(line.text, at + 1, stop, self.programs[line.program].row)

    cdef void hide_value(self, Line *line, const uint8_t *raw, Py_ssize_t start, Py_ssize_t end, int row,
                         Span after) noexcept nogil:
        # A flag's value, or what of it is secret.
        cdef const uint8_t *at
        cdef Py_ssize_t secret = start
        if after.len:
            at = <const uint8_t *>memmem(raw + start, <size_t>(end - start), after.ptr, <size_t>after.len)
            if at is NULL:
                return
            secret = at - raw + after.len
            if secret == end or (line.is_shell and secret == end - 1 and is_quote(raw[secret])):
                end = secret - after.len            # `curl -u KEY:`, where the name is the secret
                secret = start
        self.hide(line.text, secret, end, row)

    cdef Py_ssize_t past_scheme(self, const uint8_t *raw, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
        # Where what follows `Bearer ` begins, `at` without such a word.
        cdef int n
        cdef Py_ssize_t i
        for n in range(self.scheme_count):
            i = 0
            while i < self.scheme_spans[n].len and at + i < end and lower(raw[at + i]) == self.scheme_spans[n].ptr[i]:
                i += 1
            if i == self.scheme_spans[n].len and at + i < end and is_space(raw[at + i]):
                while at + i < end and is_space(raw[at + i]):
                    i += 1
                return at + i
        return at

    # -------------------------------------------------------------------------------- pairs

    cdef void find_pairs(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t text, bint is_value) noexcept nogil:
        # Names with values anywhere: JSON, query strings, headers, configuration.
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t start, name
        while at < len:
            if not is_name_byte(raw[at]):
                at += 1
                continue
            start = at
            while at < len and is_name_byte(raw[at]):
                at += 1
            name = start
            while name < at and not is_letter(raw[name]):
                name += 1
            if name < at:
                at = self.pair(raw, len, start, name, at, text, is_value)

    cdef Py_ssize_t pair(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t start, Py_ssize_t name, Py_ssize_t at,
                         Py_ssize_t text, bint is_value) noexcept nogil:
        # What the name that ends at `at` has for a value, if it has one: hide it. Gives where to go on.
        cdef Py_ssize_t end = at                # of the name
        cdef Py_ssize_t mark, value, i
        cdef bint marked = False                # quotes, a bracket or blanks: this is no word of a shell
        cdef bint quoted = False                # a key of JSON
        cdef uint8_t before
        cdef int row
        i = at
        while i < len and raw[i] == c'\\':
            i += 1
        if i < len and (is_quote(raw[i]) or raw[i] == c']'):
            at = i + 1
            marked = True
            quoted = raw[i] != c']'
        mark = at
        while mark < len and mark < at + BLANKS_MAX and is_space(raw[mark]):
            mark += 1
        marked |= mark > at
        if mark == len or not (raw[mark] == c'=' or raw[mark] == c':'):
            return end
        value = mark + 1
        if value < len and ((raw[mark] == c':' and raw[value] == c'=') or (raw[mark] == c'=' and raw[value] == c'>')):
            value += 1
            marked = True
        i = value
        while value < len and value < i + BLANKS_MAX and is_space(raw[value]) and (raw[mark] == c':' or marked):
            value += 1
        if value == len:
            return end
        if raw[mark] == c':' and not marked and value == i and not is_quote(raw[value]) and raw[value] != c'\\':
            return end                          # an image:tag
        marked |= value > i
        row = self.row_of(raw + name, end - name)
        if row < 0:
            return end
        i = value
        while i < len and raw[i] == c'\\':
            i += 1
        if i < len and is_quote(raw[i]):
            return self.quoted_value(raw, len, value, i, text, row)
        before = raw[start - 1] if start else 0
        i = value
        if row == self.header_row and raw[mark] == c':':
            value = self.past_scheme(raw, value, len)
            i = self.header_end(raw, value, len)
        elif is_value and (before == c'=' or before == c':'):
            i = len
        elif before == c'?' or before == c'&':
            while i < len and not is_space(raw[i]) and not is_quote(raw[i]) and raw[i] != c'&' and raw[i] != c'#':
                i += 1
        elif before == c',' or before == c'{' or quoted:
            while i < len and not is_space(raw[i]) and not is_quote(raw[i]) and raw[i] != c',' and (
                    before == c',' or raw[i] != c'}'):
                i += 1
        elif before == c';':
            while i < len and not is_space(raw[i]) and not is_quote(raw[i]) and raw[i] != c';':
                i += 1
        elif is_value and is_space(before):
            while i < len and not is_space(raw[i]):
                i += 1
        elif marked or before == c'=' or before == c':' or before == c'(' or before == c'[':
            while i < len and not is_space(raw[i]) and not is_quote(raw[i]) and not is_cut(raw[i]):
                i += 1
        self.hide(text, value, i, row)
        return max(i, end)

    cdef Py_ssize_t quoted_value(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t start, Py_ssize_t quote,
                                 Py_ssize_t text, int row) noexcept nogil:
        # A value in quotes, which may have backslashes before them: to where the same stands again, or to the end.
        cdef Py_ssize_t at = quote + 1
        cdef Py_ssize_t slashes
        while at < len:
            slashes = 0
            while at < len and raw[at] == c'\\':
                slashes += 1
                at += 1
            if at < len and raw[at] == raw[quote] and slashes == quote - start:
                self.hide(text, quote + 1, at - slashes, row)
                return at + 1
            at += at < len
        self.hide(text, quote + 1, len, row)
        return len

    cdef Py_ssize_t header_end(self, const uint8_t *raw, Py_ssize_t at, Py_ssize_t len) noexcept nogil:
        # A header's value without quotes: a word, the next one behind a comma or semicolon, or behind a short first.
        cdef Py_ssize_t start = at
        cdef bint is_first = True
        while True:
            while at < len and not is_space(raw[at]) and not is_quote(raw[at]):
                at += 1
            if at == start or at == len or is_quote(raw[at]) or raw[at] == c'\n' or raw[at] == c'\r':
                return at
            if raw[at - 1] != c',' and raw[at - 1] != c';' and not (is_first and at - start <= 16 and is_letter(raw[start])):
                return at
            is_first = False
            while at < len and is_space(raw[at]):
                at += 1
            start = at

    # -------------------------------------------------------------------------------- URLs

    cdef void find_urls(self, const uint8_t *raw, Py_ssize_t len, Py_ssize_t text) noexcept nogil:
        # `://NAME:SECRET@`. The secret ends at the last @ of the authority. One that holds a slash belongs to no URL,
        # but programs take it: it ends at the next @, unless what stands before the slash is a port.
        cdef const uint8_t *found
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t secret, stop, i
        if self.url_row < 0:
            return
        while True:
            found = <const uint8_t *>memmem(raw + at, <size_t>(len - at), b"://", 3)
            if found is NULL:
                return
            at = found - raw + 3
            if at < 4 or not (is_name_byte(raw[at - 4]) or raw[at - 4] == c'+'):
                continue                        # no scheme
            i = at
            while i < len and not is_space(raw[i]) and raw[i] != c':' and raw[i] != c'/' and raw[i] != c'?' \
                    and raw[i] != c'#' and raw[i] != c'@' and raw[i] != c'[':
                i += 1
            if i == len or raw[i] != c':':
                continue
            secret = i + 1
            stop = -1
            i = secret
            while i < len and not is_space(raw[i]) and raw[i] != c'/' and raw[i] != c'?' and raw[i] != c'#':
                if raw[i] == c'@':
                    stop = i
                i += 1
            if stop < 0 and i < len and not is_space(raw[i]) and not is_port(raw + secret, i - secret):
                while i < len and i < secret + 256 and not is_space(raw[i]) and raw[i] != c'@':
                    i += 1
                if i < len and raw[i] == c'@':
                    stop = i
            if stop >= 0:
                self.hide(text, secret, stop, self.url_row)
                at = stop
