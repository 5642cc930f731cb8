"""The messages of sshd: one row each, with the lines that show it and what each of them must yield.

How a row is written is told in tables/sshd_grammar.py. A new message is one new row.
"""

from __future__ import annotations

from audito.tables.sshd_grammar import MESSAGE_BYTES, Example, Row, compile_rows
from audito.tables.sshd_grammar import example as _ex
from audito.tables.sshd_notes import DAEMON_ROWS, NOISE_ROWS, PAM_ROWS, SESSION_ROWS


def _row(
    name: str, template: str, versions: str, yields: str, *examples: Example, last: bool = False, **more: str
) -> Row:
    return Row(name, template, versions, yields, examples, last=last, **more)


def _cut(line: str) -> str:
    """The line, filled up to the length at which sshd cuts: the x's stand for what was longer."""
    return line.ljust(MESSAGE_BYTES, "x")


_WHO = "<{invalid=invalid user} {user}|{user:known}>"
"""The marker that sshd puts before a name that is no account: without it the name is one that exists."""

_USER_PEER = "<{state=authenticating user|user} {user:known}|{state=invalid user} {user}> {addr} port {port}"
_PEER = "<" + _USER_PEER + "|{addr}< port {port}>>"
"""packet.c's remote_id: the user since 7.5, the port since 7.3."""

_VERB = "{verb=Accepted|Failed|Postponed|Partial}"
_AUTH = _VERB + " {method} for " + _WHO + " from {addr} port {port} {proto}"

_CUT_CERT = "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT SHA256:kkk ID "
_BOB = {"user": "bob", "addr": "10.0.0.5", "port": "50022", "proto": "ssh2"}

# auth.c auth_log(), with what auth2.c format_method_key() appends.
_AUTH_ROWS = (
    _row(
        "auth", _AUTH, "6.6-", "attempt",
        _ex("Accepted password for bob from 10.0.0.5 port 50022 ssh2", verb="Accepted", method="password", **_BOB),
        _ex("Failed password for bob from 10.0.0.5 port 50022 ssh2", verb="Failed", method="password", **_BOB),
        _ex("Postponed publickey for bob from 10.0.0.5 port 50022 ssh2", verb="Postponed", method="publickey", **_BOB),
        _ex(
            "Postponed keyboard-interactive for invalid user x y from 10.0.0.5 port 1 ssh2", verb="Postponed",
            method="keyboard-interactive", invalid="invalid user", user="x y", addr="10.0.0.5", port="1", proto="ssh2",
        ),
        _ex(
            "Accepted keyboard-interactive/pam for bob from 10.0.0.5 port 50022 ssh2",
            verb="Accepted", method="keyboard-interactive/pam", **_BOB,
        ),
        _ex(
            "Failed keyboard-interactive/bsdauth for bob from 10.0.0.5 port 50022 ssh2",
            verb="Failed", method="keyboard-interactive/bsdauth", **_BOB,
        ),
        _ex(
            "Failed none for invalid user  from 10.0.0.5 port 1 ssh2", verb="Failed", method="none",
            invalid="invalid user", user="", addr="10.0.0.5", port="1", proto="ssh2",
        ),
        _ex(
            "Failed password for invalid user x from 6.6.6.6 port 22 ssh2 from 9.9.9.9 port 5 ssh1", verb="Failed",
            method="password", invalid="invalid user", user="x from 6.6.6.6 port 22 ssh2", addr="9.9.9.9", port="5",
            proto="ssh1",
        ),
        _ex(
            "Accepted none for bob from UNKNOWN port 65535 ssh2", verb="Accepted", method="none", user="bob",
            addr="UNKNOWN", port="65535", proto="ssh2",
        ),
        error="authentication failed",
    ),
    _row(
        "auth_key", _AUTH + ": {key_type} {fp}", "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: ED25519 SHA256:abc",
            verb="Accepted", method="publickey", key_type="ED25519", fp="SHA256:abc", **_BOB,
        ),
        _ex(
            "Failed publickey for bob from 10.0.0.5 port 50022 ssh2: ECDSA-SK MD5:00:aa:bb:cc",
            verb="Failed", method="publickey", key_type="ECDSA-SK", fp="MD5:00:aa:bb:cc", **_BOB,
        ),
        _ex(
            "Partial publickey for bob from fe80::1%eth0 port 50022 ssh2: RSA 00:aa:bb:cc", verb="Partial",
            method="publickey", user="bob", addr="fe80::1%eth0", port="50022", proto="ssh2", key_type="RSA",
            fp="00:aa:bb:cc",
        ),
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: MLDSA44-ED25519 (null)",
            verb="Accepted", method="publickey", key_type="MLDSA44-ED25519", fp="(null)", **_BOB,
        ),
        _ex(
            "Failed publickey for invalid user x from 10.0.0.5 port 1 ssh2: RSA SHA256:abc", verb="Failed",
            method="publickey", invalid="invalid user", user="x", addr="10.0.0.5", port="1", proto="ssh2",
            key_type="RSA", fp="SHA256:abc",
        ),
        error="authentication failed",
    ),
    _row(
        "auth_cert", _AUTH + ": {key_type} <{fp} |>ID {key_id} (serial {serial}) CA {ca_type} {ca_fp}",
        "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: ED25519-CERT SHA256:kkk ID bob@corp (serial 42)"
            " CA ED25519 SHA256:ccc",
            verb="Accepted", method="publickey", key_type="ED25519-CERT", fp="SHA256:kkk", key_id="bob@corp",
            serial="42", ca_type="ED25519", ca_fp="SHA256:ccc", **_BOB,
        ),
        _ex(  # up to 7.8, without the key's fingerprint
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT ID bob@corp (serial"
            " 5) CA RSA SHA256:ccc",
            verb="Accepted", method="publickey", key_type="RSA-CERT", key_id="bob@corp", serial="5", ca_type="RSA",
            ca_fp="SHA256:ccc", **_BOB,
        ),
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT ID x from 6.6.6.6 port 7 ssh2: RSA-CERT"
            " SHA256:abc ID alice (serial 7) CA RSA SHA256:ddd (serial 5) CA RSA SHA256:ccc",
            verb="Accepted", method="publickey", key_type="RSA-CERT", serial="5", ca_type="RSA", ca_fp="SHA256:ccc",
            key_id="x from 6.6.6.6 port 7 ssh2: RSA-CERT SHA256:abc ID alice (serial 7) CA RSA SHA256:ddd", **_BOB,
        ),
        _ex(
            "Failed publickey for invalid user x from ::1 port 1 ssh2: RSA-CERT SHA256:a ID i (serial 7) CA RSA (null)",
            verb="Failed", method="publickey", invalid="invalid user", user="x", addr="::1", port="1", proto="ssh2",
            key_type="RSA-CERT", fp="SHA256:a", key_id="i", serial="7", ca_type="RSA", ca_fp="(null)",
        ),
        _ex(
            _cut(_CUT_CERT + "a (serial 7) CA RSA "), verb="Accepted", method="publickey", key_type="RSA-CERT",
            fp="SHA256:kkk", key_id=_cut(_CUT_CERT + "a (serial 7) CA RSA ")[len(_CUT_CERT) :], **_BOB,
        ),
        error="authentication failed", cut="tail",
    ),
    _row(
        "auth_hostbased",
        _AUTH + ': {key_type} {fp}< ID {key_id} (serial {serial}) CA {ca_type} {ca_fp}>, client user "{client_user}",'
        ' client host "{client_host}"',
        "6.6-", "attempt",
        _ex(
            'Accepted hostbased for bob from 10.0.0.5 port 50022 ssh2: ED25519 SHA256:abc, client user "bob",'
            ' client host'
            ' "h"',
            verb="Accepted", method="hostbased", key_type="ED25519", fp="SHA256:abc", client_user="bob",
            client_host="h", **_BOB,
        ),
        _ex(
            "Failed hostbased for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT SHA256:kkk ID h (serial 1) CA RSA"
            " SHA256:c,"
            ' client user "b o", client host "h."',
            verb="Failed", method="hostbased", key_type="RSA-CERT", fp="SHA256:kkk", key_id="h", serial="1",
            ca_type="RSA", ca_fp="SHA256:c", client_user="b o", client_host="h.", **_BOB,
        ),
        _ex(
            'Failed hostbased for invalid user x from ::1 port 1 ssh2: RSA SHA256:c, client user "b", client host "h"',
            verb="Failed", method="hostbased", invalid="invalid user", user="x", addr="::1", port="1", proto="ssh2",
            key_type="RSA", fp="SHA256:c", client_user="b", client_host="h",
        ),
        error="authentication failed",
    ),
    _row(
        "auth_gssapi", _VERB + " {method:gssapi} for {user:known} from {addr} port {port} {proto}: {info}",
        "6.6-", "attempt",
        _ex(
            "Accepted gssapi-with-mic for bob from 10.0.0.5 port 50022 ssh2: bob@REALM",
            verb="Accepted", method="gssapi-with-mic", info="bob@REALM", **_BOB,
        ),
        _ex(
            "Accepted gssapi-keyex for bob from 10.0.0.5 port 50022 ssh2: bob@REALM from 6.6.6.6 port 7 ssh2",
            verb="Accepted", method="gssapi-keyex", info="bob@REALM from 6.6.6.6 port 7 ssh2", **_BOB,
        ),
        error="authentication failed",
    ),
    _row(
        "auth_cert_open",
        _VERB + " {method} for {user:known} from {addr} port {port} {proto}: {key_type} <{fp} |>ID {key_id}",
        "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT SHA256:kkk ID bob@corp (serial 7) CA ",
            verb="Accepted", method="publickey", key_type="RSA-CERT", fp="SHA256:kkk", key_id="bob@corp (serial 7) CA ",
            **_BOB,
        ),
        error="authentication failed", cut="open",
    ),
    _row(
        "auth_info",  # whatever a later version appends: who and from where is certain all the same
        _VERB + " {method} for {user:known} from {addr} port {port} {proto}: {info}", "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: something new",
            verb="Accepted", method="publickey", info="something new", **_BOB,
        ),
        error="authentication failed",
    ),
    _row(
        "auth_cut", _VERB + " {method} for " + _WHO, "6.6-", "attempt",
        _ex(
            _cut("Failed keyboard-interactive/pam for invalid user " + r"\001" * 100 + " from 2001:db8::8a2e:370%eth0"),
            verb="Failed", method="keyboard-interactive/pam", invalid="invalid user",
            user="\x01" * 100 + " from 2001:db8::8a2e:370%eth0" + "x" * 22,
        ),
        error="authentication failed", cut="only",
    ),
)  # fmt: skip

# auth.c, auth-pam.c, monitor.c: names that may not log in.
_NAME_ROWS = (
    _row(
        "invalid_user", "Invalid user {user} from {addr}< port {port}>", "6.6-", "failure",
        _ex("Invalid user admin from 10.0.0.5 port 50022", user="admin", addr="10.0.0.5", port="50022"),
        _ex("Invalid user admin from 10.0.0.5", user="admin", addr="10.0.0.5"),
        _ex("Invalid user  from 10.0.0.5 port 1", user="", addr="10.0.0.5", port="1"),
        _ex("Invalid user x y from ::1 port 1", user="x y", addr="::1", port="1"),
        _ex(
            "Invalid user x from 6.6.6.6 port 22 from 9.9.9.9 port 5",
            user="x from 6.6.6.6 port 22", addr="9.9.9.9", port="5",
        ),
        error="invalid user",
    ),
    _row(
        "invalid_user_cut", "Invalid user {user}", "6.6-", "failure",
        _ex(_cut("Invalid user "), user=_cut("Invalid user ")[13:]),
        error="invalid user", cut="only",
    ),
    _row(
        "not_allowed", "User {user:known}< from {host}> not allowed because {reason}", "6.6-", "failure",
        _ex(
            "User bob from 10.0.0.5 not allowed because listed in DenyUsers",
            user="bob", host="10.0.0.5", reason="listed in DenyUsers",
        ),
        _ex(
            "User bob from h.example.com not allowed because not listed in AllowUsers",
            user="bob", host="h.example.com", reason="not listed in AllowUsers",
        ),
        _ex(
            "User bob from ::1 not allowed because not in any group",
            user="bob", host="::1", reason="not in any group",
        ),
        _ex(
            "User bob from UNKNOWN not allowed because a group is listed in DenyGroups",
            user="bob", host="UNKNOWN", reason="a group is listed in DenyGroups",
        ),
        _ex(
            "User bob from 10.0.0.5 not allowed because none of user's groups are listed in AllowGroups",
            user="bob", host="10.0.0.5", reason="none of user's groups are listed in AllowGroups",
        ),
        _ex("User bob not allowed because account is locked", user="bob", reason="account is locked"),
        _ex("User bob not allowed because shell /x does not exist", user="bob", reason="shell /x does not exist"),
        _ex("User bob not allowed because shell /x is not executable", user="bob", reason="shell /x is not executable"),
        _ex("User bob not allowed because /etc/nologin exists", user="bob", reason="/etc/nologin exists"),
        error="user not allowed",
    ),
    _row(
        "root_refused", "ROOT LOGIN REFUSED FROM {addr}< port {port}>", "6.6-", "failure",
        _ex("ROOT LOGIN REFUSED FROM 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
        _ex("ROOT LOGIN REFUSED FROM 10.0.0.5", addr="10.0.0.5"),
        error="root login refused", user="root",
    ),
    _row(
        "max_attempts", "maximum authentication attempts exceeded for " + _WHO + " from {addr} port {port} {proto}",
        "6.6-", "failure",
        _ex("maximum authentication attempts exceeded for bob from 10.0.0.5 port 50022 ssh2", **_BOB),
        _ex(
            "maximum authentication attempts exceeded for invalid user x from 10.0.0.5 port 1 ssh2",
            invalid="invalid user", user="x", addr="10.0.0.5", port="1", proto="ssh2",
        ),
        error="maximum authentication attempts exceeded",
    ),
    _row(
        "max_attempts_cut", "maximum authentication attempts exceeded for " + _WHO, "6.6-", "failure",
        _ex(
            _cut("maximum authentication attempts exceeded for invalid user "), invalid="invalid user",
            user=_cut("maximum authentication attempts exceeded for invalid user ")[58:],
        ),
        error="maximum authentication attempts exceeded", cut="only",
    ),
    _row(
        "prohibited", "administratively prohibited connection for " + _WHO + " from {addr} port {port}",
        "9.9-", "failure",
        _ex("administratively prohibited connection for bob from ::1 port 1", user="bob", addr="::1", port="1"),
        _ex(
            "administratively prohibited connection for invalid user x from 10.0.0.5 port 1",
            invalid="invalid user", user="x", addr="10.0.0.5", port="1",
        ),
        error="administratively prohibited",
    ),
    _row(
        "prohibited_cut", "administratively prohibited connection for " + _WHO, "9.9-", "failure",
        _ex(
            _cut("administratively prohibited connection for invalid user "), invalid="invalid user",
            user=_cut("administratively prohibited connection for invalid user ")[56:],
        ),
        error="administratively prohibited", cut="only",
    ),
    _row(
        "account_expired", "Account {user:known} has expired", "6.6-", "failure",
        _ex("Account bob has expired", user="bob"),
        error="account expired",
    ),
    _row(
        "pam_denied", "Access denied for user {user:known} by PAM account configuration", "6.6-", "failure",
        _ex("Access denied for user bob by PAM account configuration", user="bob"),
        error="access denied", reason="PAM account configuration",
    ),
    _row(
        "pam_error", "PAM: {reason:known} for <{invalid=illegal user} {user}|{user:known}> from {host}", "6.6-", "failure",
        _ex(
            "PAM: Authentication failure for bob from 10.0.0.5",
            reason="Authentication failure", user="bob", host="10.0.0.5",
        ),
        _ex(
            "PAM: User not known to the underlying authentication module for illegal user x for y from h.example.com",
            reason="User not known to the underlying authentication module", invalid="illegal user", user="x for y",
            host="h.example.com",
        ),
        error="PAM", method="keyboard-interactive/pam",
    ),
    _row(
        "pam_error_cut", "PAM: {reason:known} for <{invalid=illegal user} {user}|{user:known}>", "6.6-", "failure",
        _ex(
            _cut("PAM: Authentication failure for illegal user "), reason="Authentication failure",
            invalid="illegal user", user=_cut("PAM: Authentication failure for illegal user ")[45:],
        ),
        error="PAM", method="keyboard-interactive/pam", cut="only",
    ),
    _row(
        "pam_other", "PAM: {text}", "6.6-", "note",
        _ex("PAM: pam_setcred(): Failure", text="pam_setcred(): Failure"),
        last=True,
    ),
    _row(
        "request_invalid", "input_userauth_request: invalid user {user}", "6.6-7.4", "note",
        _ex("input_userauth_request: invalid user x y", user="x y"),
    ),
    _row(
        "password_expired", "User {user:known} password has expired ({reason=root forced|password aged})",
        "6.6-", "note",
        _ex("User bob password has expired (password aged)", user="bob", reason="password aged"),
    ),
    _row(
        "name_differs", "Login name {user} does not match stored username {text:known}", "6.6-", "note",
        _ex("Login name BOB does not match stored username bob", user="BOB", text="bob"),
    ),
    _row(
        "name_changed", "wrong user name passed to monitor: expected {text:known} != {user}", "6.6-", "note",
        _ex("wrong user name passed to monitor: expected bob != eve", text="bob", user="eve"),
    ),
    _row(
        "shadow_missing", "Could not get shadow information for {user}", "6.6-", "note",
        _ex("Could not get shadow information for NOUSER", user="NOUSER"),
    ),
)  # fmt: skip

# auth.c, auth2-pubkey.c, auth2-pubkeyfile.c, auth2-hostbased.c, monitor.c: keys and certificates.
_KEY_ROWS = (
    _row(
        "key_revoked", "Authentication key {key_type} {fp} revoked by file {reason}", "6.6-", "failure",
        _ex(
            "Authentication key RSA SHA256:abc revoked by file /etc/ssh/revoked",
            key_type="RSA", fp="SHA256:abc", reason="/etc/ssh/revoked",
        ),
        error="key revoked", method="publickey",
    ),
    _row(
        "key_unchecked", "Error checking authentication key {key_type} {fp} in revoked keys file {path:known}: {reason}",
        "6.8-", "failure",
        _ex(
            "Error checking authentication key RSA SHA256:abc in revoked keys file /etc/ssh/revoked: invalid format",
            key_type="RSA", fp="SHA256:abc", path="/etc/ssh/revoked", reason="invalid format",
        ),
        error="revoked keys file unreadable", method="publickey",
    ),
    _row(
        "key_revoked_for", "WARNING: revoked key for {user:known} attempted authentication", "6.6-", "failure",
        _ex("WARNING: revoked key for bob attempted authentication", user="bob"),
        error="key revoked", method="publickey",
    ),
    _row(
        "bad_modes", "Authentication refused< for {user:known}>: bad <ownership|owner> or modes for {reason}",
        "6.6-", "failure",
        _ex("Authentication refused: bad ownership or modes for directory /home/bob", reason="directory /home/bob"),
        _ex("Authentication refused for bob: bad owner or modes for /home/bob/x", user="bob", reason="/home/bob/x"),
        error="bad ownership or modes", method="publickey",
    ),
    _row(
        "auth_refused", "Authentication refused: {reason}", "6.6-", "failure",
        _ex("Authentication refused: /home/bob/k is not a regular file", reason="/home/bob/k is not a regular file"),
        error="authentication refused", method="publickey",
        last=True,
    ),
    _row(
        "cert_invalid", "Certificate invalid: {reason}", "6.6-10.0", "failure",
        _ex("Certificate invalid: expired", reason="expired"),
        _ex("Certificate invalid: not yet valid", reason="not yet valid"),
        _ex("Certificate invalid: name is not a listed principal", reason="name is not a listed principal"),
        _ex("Certificate invalid: not a user certificate", reason="not a user certificate"),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_principal", "Certificate {reason=lacks principal list|does not contain an authorized principal}",
        "6.6-10.0", "failure",
        _ex("Certificate lacks principal list", reason="lacks principal list"),
        _ex(
            "Certificate does not contain an authorized principal", reason="does not contain an authorized principal",
        ),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_options", "Invalid certificate {reason=options}", "7.7-", "failure",
        _ex("Invalid certificate options", reason="options"),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_option", "Certificate <critical option|extension|option|has multiple|source-address> {text}",
        "6.6-", "note",
        _ex('Certificate critical option "x" is not supported', text='"x" is not supported'),
    ),
    _row(
        "cert_refused",
        'Refusing certificate ID "{key_id}" serial={serial} signed by {ca_type} CA {ca_fp}< via {path:known}>:'
        " {reason}",
        "10.1-", "failure",
        _ex(
            'Refusing certificate ID "bob corp" serial=7 signed by RSA CA SHA256:ccc: Certificate invalid: expired',
            key_id="bob corp", serial="7", ca_type="RSA", ca_fp="SHA256:ccc", reason="Certificate invalid: expired",
        ),
        _ex(
            'Refusing certificate ID "bob" serial=7 signed by ED25519 CA SHA256:ccc via /etc/ssh/ca.pub: not yet valid',
            key_id="bob", serial="7", ca_type="ED25519", ca_fp="SHA256:ccc", path="/etc/ssh/ca.pub",
            reason="not yet valid",
        ),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_refused_open", 'Refusing certificate ID "{key_id}', "10.1-", "failure",
        _ex('Refusing certificate ID "long" serial=7 sig', key_id='long" serial=7 sig'),
        error="certificate invalid", method="publickey", cut="open", last=True,
    ),
    _row(
        "fido_refused",
        "public key <{key_type} {fp}|{alg}> signature for " + _WHO + " from {addr} port {port} rejected: {reason=user "
        "presence (authenticator touch) requirement not met|user verification requirement not met}< >",
        "8.2-", "failure",
        _ex(
            "public key ECDSA-SK SHA256:abc signature for bob from 10.0.0.5 port 1 rejected: user presence"
            " (authenticator"
            " touch) requirement not met ",
            key_type="ECDSA-SK", fp="SHA256:abc", user="bob", addr="10.0.0.5", port="1",
            reason="user presence (authenticator touch) requirement not met",
        ),
        _ex(
            "public key ED25519-SK signature for invalid user x from 10.0.0.5 port 1 rejected: user verification"
            " requirement not met",
            alg="ED25519-SK", invalid="invalid user", user="x", addr="10.0.0.5", port="1",
            reason="user verification requirement not met",
        ),
        error="FIDO signature refused", method="publickey",
    ),
    _row(
        "fido_refused_cut", "public key <{key_type} {fp}|{alg}> signature for " + _WHO, "8.2-", "failure",
        _ex(
            _cut("public key ECDSA-SK SHA256:abc signature for bob"), key_type="ECDSA-SK", fp="SHA256:abc",
            user=_cut("public key ECDSA-SK SHA256:abc signature for bob")[45:],
        ),
        _ex(
            _cut("public key ED25519-SK signature for invalid user "), alg="ED25519-SK", invalid="invalid user",
            user=_cut("public key ED25519-SK signature for invalid user ")[49:],
        ),
        error="FIDO signature refused", method="publickey", cut="only",
    ),
    _row(
        "key_from_elsewhere",
        "<{source:known}: |>Authentication tried for {user:known} with correct key but not from a permitted host"
        " (host={host}, ip={addr}, required={reason}).",
        "6.6-", "failure",
        _ex(
            "Authentication tried for bob with correct key but not from a permitted host (host=h.example.com,"
            " ip=10.0.0.5,"
            " required=10.1.0.0/16).",
            user="bob", host="h.example.com", addr="10.0.0.5", reason="10.1.0.0/16",
        ),
        _ex(
            "/home/bob/.ssh/authorized_keys:3: Authentication tried for bob with correct key but not from a"
            " permitted host"
            " (host=10.0.0.5, ip=10.0.0.5, required=10.1.0.0/16).",
            source="/home/bob/.ssh/authorized_keys:3", user="bob", host="10.0.0.5", addr="10.0.0.5",
            reason="10.1.0.0/16",
        ),
        error="not from a permitted host", method="publickey", cut="tail",
    ),
    _row(
        "cert_from_elsewhere",
        "<{source:known}: |>Authentication tried for {user:known} with valid certificate but not from a permitted"
        " <source address ({addr}).|host (ip={addr}).>",
        "6.6-", "failure",
        _ex(
            "cert: Authentication tried for bob with valid certificate but not from a permitted"
            " source address (10.0.0.5).",
            source="cert", user="bob", addr="10.0.0.5",
        ),
        _ex(
            "Authentication tried for bob with valid certificate but not from a permitted host (ip=10.0.0.5).",
            user="bob", addr="10.0.0.5",
        ),
        error="not from a permitted host", method="publickey",
    ),
    _row(
        "rhosts_refused", "Rhosts authentication refused for {user:known}: {reason}", "6.6-", "failure",
        _ex(
            "Rhosts authentication refused for bob: bad modes for /home/bob",
            user="bob", reason="bad modes for /home/bob",
        ),
        error="authentication refused", method="hostbased",
    ),
    _row(
        "rhosts_user", "auth_rhosts2 refused {text}", "6.6-", "note",
        _ex('auth_rhosts2 refused user "bob" host "h" addr "10.0.0.5"', text='user "bob" host "h" addr "10.0.0.5"'),
    ),
    _row(
        "alg_refused",
        "userauth_<pubkey|hostbased>: <key type|signature algorithm|certificate signature algorithm>"
        " {alg} not in {name}",
        "6.6-", "note",
        _ex(
            "userauth_pubkey: key type ssh-dss not in PubkeyAcceptedKeyTypes",
            alg="ssh-dss", name="PubkeyAcceptedKeyTypes",
        ),
        _ex(
            "userauth_pubkey: signature algorithm ssh-rsa not in PubkeyAcceptedAlgorithms",
            alg="ssh-rsa", name="PubkeyAcceptedAlgorithms",
        ),
    ),
    _row(
        "userauth", "userauth_<pubkey|hostbased|finish|gssapi|passwd|kbdint>: {text}", "6.6-", "note",
        _ex("userauth_pubkey: unsupported public key algorithm: x", text="unsupported public key algorithm: x"),
        last=True,
    ),
    _row(
        "cert_accepted",
        'Accepted certificate ID "{key_id}" (serial {serial}) signed by <{ca_type} CA|CA {ca_type}> {ca_fp}'
        " <via|found at> {path}",
        "6.6-", "note",
        _ex(
            'Accepted certificate ID "bob" (serial 7) signed by RSA CA SHA256:ccc via /etc/ssh/ca.pub',
            key_id="bob", serial="7", ca_type="RSA", ca_fp="SHA256:ccc", path="/etc/ssh/ca.pub",
        ),
        _ex(
            'Accepted certificate ID "bob" (serial 7) signed by CA RSA SHA256:ccc found at /home/bob/.ssh/k:1',
            key_id="bob", serial="7", ca_type="RSA", ca_fp="SHA256:ccc", path="/home/bob/.ssh/k:1",
        ),
    ),
    _row(
        "cert_accepted_open", 'Accepted certificate ID "{key_id}', "6.6-", "note",
        _ex('Accepted certificate ID "long" (serial 7', key_id='long" (serial 7'),
        cut="open", last=True,
    ),
    _row(
        "cert_accepted_host",
        'Accepted certificate ID "{key_id}" signed by {ca_type} CA {ca_fp} from {client_user}@{client_host}',
        "7.6-", "note",
        _ex(
            'Accepted certificate ID "h" signed by RSA CA SHA256:ccc from bob@h.example.com',
            key_id="h", ca_type="RSA", ca_fp="SHA256:ccc", client_user="bob", client_host="h.example.com",
        ),
    ),
    _row(
        "key_accepted_host", "Accepted {key_type} public key {fp} from {client_user}@{client_host}", "6.6-", "note",
        _ex(
            "Accepted RSA public key SHA256:abc from bob@h.example.com",
            key_type="RSA", fp="SHA256:abc", client_user="bob", client_host="h.example.com",
        ),
    ),
    _row(
        "key_accepted", "Accepted key {key_type} {fp} found at {path}", "7.7-", "note",
        _ex(
            "Accepted key ED25519 SHA256:abc found at /home/bob/.ssh/authorized_keys:3",
            key_type="ED25519", fp="SHA256:abc", path="/home/bob/.ssh/authorized_keys:3",
        ),
    ),
    _row(
        "key_found", "matching key found: file {path}, line {line} {key_type} {fp}", "6.6-7.6", "note",
        _ex(
            "matching key found: file /home/bob/.ssh/authorized_keys, line 3 RSA SHA256:abc",
            path="/home/bob/.ssh/authorized_keys", line="3", key_type="RSA", fp="SHA256:abc",
        ),
    ),
    _row(
        "key_matching", "Found matching {key_type} key: {fp}", "6.6-7.6", "note",
        _ex("Found matching RSA key: aa:bb:cc", key_type="RSA", fp="aa:bb:cc"),
    ),
    _row(
        "key_options", "Refused by {text}", "6.6-", "note",
        _ex("Refused by certificate options", text="certificate options"),
        last=True,
    ),
    _row(
        "key_options_differ", "Inconsistent authentication options: {text}", "7.7-", "note",
        _ex("Inconsistent authentication options: key options", text="key options"),
    ),
    _row(  # a client that logs in with two keys offers the first once more
        "key_used", "refusing previously-used {key_type} key", "6.8-", "note",
        _ex("refusing previously-used ED25519 key", key_type="ED25519"),
    ),
    _row(
        "key_unsafe", "Refusing RSA key because <client uses unsafe signature scheme|peer uses unsafe signature format>",
        "6.6-", "note",
        _ex("Refusing RSA key because peer uses unsafe signature format"),
    ),
    _row(
        "client_unsafe", 'Client version "{text}" uses unsafe RSA signature scheme; disabling use of RSA keys',
        "6.6-", "note",
        _ex('Client version "x" uses unsafe RSA signature scheme; disabling use of RSA keys', text="x"),
    ),
    _row(
        "key_command", "<Unsafe |Could not stat |>Authorized<Keys|Principals>Command{text}", "6.6-", "note",
        _ex("AuthorizedKeysCommand /opt/keys bob failed, status 1", text=" /opt/keys bob failed, status 1"),
        _ex(
            'Unsafe AuthorizedPrincipalsCommand "/opt/x": bad ownership or modes for file /opt/x',
            text=' "/opt/x": bad ownership or modes for file /opt/x',
        ),
    ),
    _row(
        "key_file_closed", "Could not open user '{user:known}' {text:known} '{path:known}': {reason}", "8.6-", "note",
        _ex(
            "Could not open user 'bob' authorized keys '/x/k': Permission denied",
            user="bob", text="authorized keys", path="/x/k", reason="Permission denied",
        ),
    ),
    _row(
        "key_file_odd", "User <'{user:known}' {text:known} '{path:known}'|{text:known}> is not a regular file", "6.6-", "note",
        _ex("User 'bob' authorized keys '/x/k' is not a regular file", user="bob", text="authorized keys", path="/x/k"),
        _ex("User bob authorized keys /x/k is not a regular file", text="bob authorized keys /x/k"),
    ),
    _row(
        "host_differs",
        "userauth_hostbased mismatch: client sends {client_host}, but we resolve {addr} to {host}", "6.6-", "note",
        _ex(
            "userauth_hostbased mismatch: client sends h.example.com, but we resolve 10.0.0.5 to 10.0.0.5",
            client_host="h.example.com", addr="10.0.0.5", host="10.0.0.5",
        ),
    ),
    _row(
        "gssapi", "GSSAPI MIC check failed", "6.6-", "note", _ex("GSSAPI MIC check failed"),
    ),
    _row(
        "krb5", "Authorized to {user}, krb5 principal {text}", "6.6-", "note",
        _ex("Authorized to bob, krb5 principal bob@REALM (krb5_kuserok)", user="bob", text="bob@REALM (krb5_kuserok)"),
    ),
)  # fmt: skip

# packet.c, serverloop.c, sshd.c: connections that begin and end.
_CONNECTION_ROWS = (
    _row(
        "connection", "Connection from {addr} port {port}< on {laddr} port {lport}< rdomain \"{text}\">>",
        "6.6-", "note",
        _ex("Connection from 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
        _ex(
            "Connection from 10.0.0.5 port 50022 on 10.0.0.1 port 22",
            addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22",
        ),
        _ex(
            'Connection from 10.0.0.5 port 50022 on 10.0.0.1 port 22 rdomain "red"',
            addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22", text="red",
        ),
    ),
    _row(
        "connection_options", "Connection from {addr} port {port} with IP opts: {text}", "6.6-", "note",
        _ex("Connection from 10.0.0.5 port 1 with IP opts: 83", addr="10.0.0.5", port="1", text="83"),
    ),
    _row(
        "connection_over", "{reason=Connection closed|Connection reset} by " + _PEER, "6.6-", "end",
        _ex("Connection reset by 10.0.0.5 port 4711", reason="Connection reset", addr="10.0.0.5", port="4711"),
        _ex("Connection closed by 10.0.0.5", reason="Connection closed", addr="10.0.0.5"),
        _ex(
            "Connection closed by authenticating user bob 10.0.0.5 port 50022",
            reason="Connection closed", state="authenticating user", user="bob", addr="10.0.0.5", port="50022",
        ),
        _ex(
            "Connection closed by invalid user  10.0.0.5 port 50022",
            reason="Connection closed", state="invalid user", user="", addr="10.0.0.5", port="50022",
        ),
        _ex(
            "Connection reset by user b o ::1 port 1",
            reason="Connection reset", state="user", user="b o", addr="::1", port="1",
        ),
        error="authentication failed",
    ),
    _row(
        "connection_cut", "<Connection closed by|Connection reset by|Disconnected from|Disconnecting>"
        " {state=authenticating user|invalid user|user} {user}", "7.5-", "note",
        _ex(_cut("Disconnected from invalid user "), state="invalid user", user="x" * 469),
        cut="only",
    ),
    _row(
        "connection_timeout", "Connection from " + _PEER + " timed out", "7.5-", "end",
        _ex(
            "Connection from invalid user x y 10.0.0.5 port 1 timed out",
            state="invalid user", user="x y", addr="10.0.0.5", port="1",
        ),
        error="authentication failed", reason="timed out",
    ),
    _row(
        "connection_error", "{source:known}: Connection from " + _USER_PEER + ": {text}", "7.5-", "end",
        _ex(
            "ssh_dispatch_run_fatal: Connection from user bob 10.0.0.5 port 1: message authentication code incorrect",
            source="ssh_dispatch_run_fatal", state="user", user="bob", addr="10.0.0.5", port="1",
            text="message authentication code incorrect",
        ),
        error="authentication failed", last=True,
    ),
    _row(  # of before there was a user: no session ends with it
        "connection_refused", "{source:known}: Connection from {addr}< port {port}>: {text}", "7.5-", "note",
        _ex(
            "banner exchange: Connection from 10.0.0.5 port 1: invalid format",
            source="banner exchange", addr="10.0.0.5", port="1", text="invalid format",
        ),
        last=True,
    ),
    _row(
        "disconnected", "Disconnected from " + _PEER, "6.6-", "end",
        _ex(
            "Disconnected from user bob 10.0.0.5 port 50022", state="user", user="bob", addr="10.0.0.5", port="50022",
        ),
        _ex("Disconnected from 10.0.0.5", addr="10.0.0.5"),
        error="authentication failed", reason="disconnected",
    ),
    _row(
        "disconnecting", "Disconnecting< " + _PEER + ">: {text}", "6.6-", "end",
        _ex(
            "Disconnecting authenticating user bob 10.0.0.5 port 1: Too many authentication failures",
            state="authenticating user", user="bob", addr="10.0.0.5", port="1", text="Too many authentication failures",
        ),
        _ex(
            "Disconnecting: Too many authentication failures for bob", text="Too many authentication failures for bob",
        ),
        error="authentication failed",
    ),
    _row(
        "received_disconnect", "Received disconnect from {addr}< port {port}:|: >{code}: {text}", "6.6-", "end",
        _ex(
            "Received disconnect from 10.0.0.5 port 50022:11: disconnected by user",
            addr="10.0.0.5", port="50022", code="11", text="disconnected by user",
        ),
        _ex("Received disconnect from 10.0.0.5: 11: Bye Bye", addr="10.0.0.5", code="11", text="Bye Bye"),
        _ex("Received disconnect from fe80::1%eth0: 14: ", addr="fe80::1%eth0", code="14", text=""),
    ),
    _row(
        "negotiation", "Unable to negotiate with " + _PEER + ": {reason}. Their offer: {text}", "7.3-", "note",
        _ex(
            "Unable to negotiate with 10.0.0.5 port 1: no matching host key type found. Their offer: ssh-dss",
            addr="10.0.0.5", port="1", reason="no matching host key type found", text="ssh-dss",
        ),
        _ex(
            "Unable to negotiate with invalid user x ::1 port 1: no matching MAC found. Their offer: none",
            state="invalid user", user="x", addr="::1", port="1", reason="no matching MAC found", text="none",
        ),
    ),
    _row(
        "unresponsive", "{reason=Timeout, client not responding|terminating inactive connection} from " + _PEER,
        "6.6-", "end",
        _ex(
            "Timeout, client not responding from user bob 10.0.0.5 port 1",
            reason="Timeout, client not responding", state="user", user="bob", addr="10.0.0.5", port="1",
        ),
        _ex(
            "terminating inactive connection from user bob 10.0.0.5 port 1",
            reason="terminating inactive connection", state="user", user="bob", addr="10.0.0.5", port="1",
        ),
        error="authentication failed",
    ),
    _row(
        "unresponsive_old", "Timeout, client not responding.", "6.6-7.6", "end",
        _ex("Timeout, client not responding."),
        reason="Timeout, client not responding",
    ),
    _row(
        "read_error", "Read error from remote host " + _PEER + ": {text}", "6.6-", "end",
        _ex(
            "Read error from remote host 10.0.0.5 port 1: Connection timed out",
            addr="10.0.0.5", port="1", text="Connection timed out",
        ),
        _ex(
            "Read error from remote host 10.0.0.5: Connection reset by peer",
            addr="10.0.0.5", text="Connection reset by peer",
        ),
        _ex(
            "Read error from remote host user bob 10.0.0.5 port 1: x",
            state="user", user="bob", addr="10.0.0.5", port="1", text="x",
        ),
        error="authentication failed",
    ),
    _row(
        "timeout", "Timeout before authentication for {addr}< port {port}>", "6.6-9.7", "note",
        _ex("Timeout before authentication for 10.0.0.5 port 1", addr="10.0.0.5", port="1"),
        _ex("Timeout before authentication for 10.0.0.5", addr="10.0.0.5"),
    ),
    _row(  # the listener writes it; 9.8 names the two addresses the wrong way round
        "timeout_listener", "Timeout before authentication for connection from {addr} to {laddr}<, pid = {pid}>",
        "9.8-", "note",
        _ex(
            "Timeout before authentication for connection from ::1 to ::1", addr="::1", laddr="::1",
        ),
        _ex(
            "Timeout before authentication for connection from 10.0.0.5 to 10.0.0.1, pid = 4711",
            addr="10.0.0.5", laddr="10.0.0.1", pid="4711",
        ),
    ),
    _row(
        "dropped", "drop connection #{count} from [{addr}]:{port} on [{laddr}]:{lport} {text}", "7.4-", "note",
        _ex(
            "drop connection #10 from [10.0.0.5]:50022 on [10.0.0.1]:22 past MaxStartups",
            count="10", addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22", text="past MaxStartups",
        ),
        _ex(
            "drop connection #10 from [10.0.0.5]:50022 on [10.0.0.1]:22 Maxstartups",
            count="10", addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22", text="Maxstartups",
        ),
        _ex(
            "drop connection #0 from [::1]:50022 on [::1]:22 penalty: failed authentication",
            count="0", addr="::1", port="50022", laddr="::1", lport="22", text="penalty: failed authentication",
        ),
    ),
    _row("throttling", "beginning MaxStartups throttling", "8.4-9.9", "note", _ex("beginning MaxStartups throttling")),
    _row(
        "throttled",
        "<in MaxStartups throttling for|exited MaxStartups throttling after> {name}, {count} connections dropped",
        "8.4-9.9", "note",
        _ex("exited MaxStartups throttling after 00:00:31, 7 connections dropped", name="00:00:31", count="7"),
        _ex("in MaxStartups throttling for 00:05:00, 70 connections dropped", name="00:05:00", count="70"),
    ),
    _row(
        "rate_limited", "{reason:known} logging rate-limited: additional {count} connections dropped", "10.0-", "note",
        _ex("Maxstartups logging rate-limited: additional 7 connections dropped", reason="Maxstartups", count="7"),
        _ex(
            "PerSourcePenalties logging rate-limited: additional 4 connections dropped",
            reason="PerSourcePenalties", count="4",
        ),
    ),
    _row(
        "penalty", "srclimit_penalise: {family}: new {addr}/{count} {state=active|deferred} penalty of"
        " {seconds} seconds for"
        " penalty: {reason}", "9.8-", "note",
        _ex(
            "srclimit_penalise: ipv4: new 10.0.0.5/32 active penalty of 5 seconds for penalty: failed authentication",
            family="ipv4", addr="10.0.0.5", count="32", state="active", seconds="5", reason="failed authentication",
        ),
        _ex(
            "srclimit_penalise: ipv6: new fe80::/64 deferred penalty of 1.500 seconds for penalty: caused crash",
            family="ipv6", addr="fe80::", count="64", state="deferred", seconds="1.500", reason="caused crash",
        ),
    ),
    _row(
        "penalty_active", "srclimit_penalise: {addr}/{count}: activating {family} penalty of {seconds} seconds for"
        " penalty: {reason}", "9.8-", "note",
        _ex(
            "srclimit_penalise: 10.0.0.5/32: activating ipv4 penalty of 15 seconds for penalty: caused crash",
            addr="10.0.0.5", count="32", family="ipv4", seconds="15", reason="caused crash",
        ),
    ),
    _row(
        "penalty_other", "srclimit_penalise: {text}", "9.8-", "note",
        _ex("srclimit_penalise: ipv4: penalties full", text="ipv4: penalties full"),
        last=True,
    ),
    _row(
        "child_killed", "session process {pid} for <connection from {addr} to {laddr}|{text}> killed by"
        " signal {signal}<"
        " after authentication>", "9.8-", "end",
        _ex(
            "session process 4711 for connection from 10.0.0.5 to 10.0.0.1 killed by signal 9",
            pid="4711", addr="10.0.0.5", laddr="10.0.0.1", signal="9",
        ),
        _ex("session process 4711 for [auth] killed by signal 9", pid="4711", text="[auth]", signal="9"),
        reason="killed by a signal",
    ),
    _row(
        "child_crashed", "Session process {pid} unpriv child crash for <connection from {addr} to {laddr}|{text}>",
        "9.8-", "note",
        _ex(
            "Session process 4711 unpriv child crash for connection from 10.0.0.5 to 10.0.0.1",
            pid="4711", addr="10.0.0.5", laddr="10.0.0.1",
        ),
        _ex("Session process 4711 unpriv child crash for x", pid="4711", text="x"),
    ),
    _row(
        "user_child", "User child is on pid {pid}", "6.6-", "child",
        _ex("User child is on pid 4711", pid="4711"),
    ),
    _row(
        "closing", "Closing connection to {addr}< port {port}>", "6.6-", "note",
        _ex("Closing connection to 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
    ),
    _row(
        "discarded", "Finished discarding for {addr}< port {port}>", "6.6-", "note",
        _ex("Finished discarding for 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
    ),
    _row(
        "transferred", "Transferred: {text}", "6.6-", "note",
        _ex("Transferred: sent 1, received 2 bytes", text="sent 1, received 2 bytes"),
    ),
    _row(
        "not_sftp", "Connection from " + _PEER + ": refusing non-sftp session", "6.6-", "note",
        _ex(
            "Connection from user bob 10.0.0.5 port 1: refusing non-sftp session",
            state="user", user="bob", addr="10.0.0.5", port="1",
        ),
    ),
)  # fmt: skip

ROWS = (
    *_AUTH_ROWS, *_NAME_ROWS, *_KEY_ROWS, *_CONNECTION_ROWS, *NOISE_ROWS, *SESSION_ROWS, *PAM_ROWS, *DAEMON_ROWS,
)  # fmt: skip
"""All messages that are known."""

GRAMMAR = compile_rows(ROWS)
