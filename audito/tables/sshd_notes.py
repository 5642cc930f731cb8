"""The messages of sshd that tell of no attempt to log in: rows of tables/sshd.py, nearly all of them notes."""

from __future__ import annotations

from audito.tables.sshd_grammar import Example, Row
from audito.tables.sshd_grammar import example as _ex


def _note(name: str, template: str, versions: str, *examples: Example, last: bool = False) -> Row:
    return Row(name, template, versions, "note", examples, last=last)


# What comes before keys are exchanged, and warnings about names in the DNS: never a failed login.
NOISE_ROWS = (
    _note(
        "no_identification", "Did not receive identification string from {addr}< port {port}>", "6.6-7.9",
        _ex("Did not receive identification string from 10.0.0.5 port 1", addr="10.0.0.5", port="1"),
        _ex("Did not receive identification string from 10.0.0.5", addr="10.0.0.5"),
    ),
    _note(
        "bad_version", "Bad protocol version identification '{text}' from {addr}< port {port}>", "6.6-7.9",
        _ex(
            "Bad protocol version identification 'GET / HTTP/1.1' from 10.0.0.5 port 1",
            text="GET / HTTP/1.1", addr="10.0.0.5", port="1",
        ),
    ),
    _note(
        "versions_differ", "Protocol major versions differ< for {addr}< port {port}>>: {text}", "6.6-",
        _ex("Protocol major versions differ: 2 vs. 1", text="2 vs. 1"),
        _ex("Protocol major versions differ for 10.0.0.5 port 1: a vs. b", addr="10.0.0.5", port="1", text="a vs. b"),
    ),
    _note(
        "scanned", "<probed|scanned> from {addr}< port {port}> with {text}.  Don't panic.", "6.6-",
        _ex("scanned from 10.0.0.5 port 1 with SSH-1.5-x.  Don't panic.", addr="10.0.0.5", port="1", text="SSH-1.5-x"),
    ),
    _note(
        "identification", "kex_exchange_identification: {text}", "8.0-",
        _ex(
            "kex_exchange_identification: Connection closed by remote host", text="Connection closed by remote host",
        ),
        _ex(
            'kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1"',
            text='client sent invalid protocol identifier "GET / HTTP/1.1"',
        ),
    ),
    _note(
        "kex_error", "<Hm, |>kex protocol error: {text}", "6.6-",
        _ex("kex protocol error: type 30 seq 1", text="type 30 seq 1"),
    ),
    _note(
        "kex", "kex_<input_kexinit|choose_conf|send_kexinit|protocol_error>: {text}", "6.6-",
        _ex("kex_protocol_error: type 20 seq 2", text="type 20 seq 2"),
    ),
    _note(
        "dispatch_error", "dispatch_protocol_error: {text}", "6.6-",
        _ex("dispatch_protocol_error: type 90 seq 3", text="type 90 seq 3"),
    ),
    _note(
        "no_matching", "no <matching|hostkey alg>{text}", "6.6-",
        _ex("no matching mac found: client a server b", text=" mac found: client a server b"),
        _ex("no hostkey alg", text=""),
    ),
    _note(
        "bad_packet", "Bad packet length {count}.", "6.6-",
        _ex("Bad packet length 1349676916.", count="1349676916"),
    ),
    _note("bad_mac", "Corrupted <MAC|check bytes> on input.", "6.6-", _ex("Corrupted MAC on input.")),
    _note("bad_pad", "Corrupted padlen {count} on input.", "6.6-", _ex("Corrupted padlen 1 on input.", count="1")),
    _note(
        "bad_padding", "padding error: {text}", "6.6-",
        _ex("padding error: need 28 block 8 mod 4", text="need 28 block 8 mod 4"),
    ),
    _note(
        "no_ident_written", "Could not write ident string to {addr}< port {port}>", "6.6-7.9",
        _ex("Could not write ident string to 10.0.0.5 port 1", addr="10.0.0.5", port="1"),
    ),
    _note(
        "socket_failed", "<Read from socket|Write> failed: {text}", "6.6-7.4",
        _ex("Read from socket failed: Connection reset by peer", text="Connection reset by peer"),
    ),
    _note(
        "packet", "ssh_packet_<read|write_wait|write_poll|send2_wrapped|get_string|set_connection>: {text}",
        "6.6-",
        _ex("ssh_packet_write_wait: Broken pipe", text="Broken pipe"),
    ),
    _note(
        "privsep",
        "<mm_request_receive|mm_request_send|mm_log_handler|monitor_read|monitor_read_log|privsep_preauth"
        "|auth2_update_session_info|auth_activate_options>: {text}",
        "6.6-",
        _ex("auth2_update_session_info: auth_method_info contains \\\\n", text="auth_method_info contains \\n"),
        _ex("monitor_read: unpermitted request 12", text="unpermitted request 12"),
    ),
    _note(
        "dns_mismatch",
        "Address {addr} maps to {host}, but this does not map back to the address<.>< - POSSIBLE BREAK-IN ATTEMPT!>",
        "6.6-",
        _ex(
            "Address 10.0.0.5 maps to h.example.com, but this does not map back to the address -"
            " POSSIBLE BREAK-IN ATTEMPT!",
            addr="10.0.0.5", host="h.example.com",
        ),
        _ex(
            "Address 10.0.0.5 maps to h.example.com, but this does not map back to the address.",
            addr="10.0.0.5", host="h.example.com",
        ),
    ),
    _note(
        "dns_failed",
        "reverse mapping checking getaddrinfo for {host} [{addr}] failed<.>< - POSSIBLE BREAK-IN ATTEMPT!>",
        "6.6-",
        _ex(
            "reverse mapping checking getaddrinfo for h.example.com [10.0.0.5] failed - POSSIBLE BREAK-IN ATTEMPT!",
            host="h.example.com", addr="10.0.0.5",
        ),
        _ex(
            "reverse mapping checking getaddrinfo for h.example.com [10.0.0.5] failed.",
            host="h.example.com", addr="10.0.0.5",
        ),
    ),
    _note(
        "dns_nasty", 'Nasty PTR record "{text}" is set up for {addr}, ignoring', "6.6-",
        _ex('Nasty PTR record "10.0.0.1" is set up for 10.0.0.5, ignoring', text="10.0.0.1", addr="10.0.0.5"),
    ),
    _note(
        "tcp_wrapper", "<refused connect from|Connection refused by tcp wrapper>< {text}>", "distro",
        _ex("refused connect from h.example.com (10.0.0.5)", text="h.example.com (10.0.0.5)"),
        _ex("Connection refused by tcp wrapper"),
    ),
    _note(
        "tcp_wrapper_warning", "warning: {text}", "distro",
        _ex(
            "warning: can't get client address: Connection reset by peer",
            text="can't get client address: Connection reset by peer",
        ),
    ),
)  # fmt: skip

# session.c, serverloop.c, sftp-server.c, auth-pam.c: what goes on in a session.
SESSION_ROWS = (
    _note(
        "session_start", "Starting session: {text:known}< on {tty}> for {user} from {addr} port {port} id {id}",
        "6.7-",
        _ex(
            "Starting session: shell on pts/0 for bob from 10.0.0.5 port 50022 id 0",
            text="shell", tty="pts/0", user="bob", addr="10.0.0.5", port="50022", id="0",
        ),
        _ex(
            "Starting session: subsystem 'sftp' for bob from 10.0.0.5 port 50022 id 1",
            text="subsystem 'sftp'", user="bob", addr="10.0.0.5", port="50022", id="1",
        ),
        _ex(
            "Starting session: forced-command (key-option) 'cmd' for bob from 10.0.0.5 port 50022 id 0",
            text="forced-command (key-option) 'cmd'", user="bob", addr="10.0.0.5", port="50022", id="0",
        ),
    ),
    _note(
        "session_close", "Close session: user {user:known} from {addr} port {port} id {id}", "7.0-",
        _ex(
            "Close session: user bob from 10.0.0.5 port 50022 id 0", user="bob", addr="10.0.0.5", port="50022", id="0",
        ),
    ),
    _note(
        "subsystem", "subsystem request for {text:known}< by user {user:known}<, failed, subsystem not found>>",
        "6.6-",
        _ex("subsystem request for sftp by user bob", text="sftp", user="bob"),
        _ex("subsystem request for sftp", text="sftp"),
    ),
    _note(
        "forward_refused", "refused <local port|streamlocal port> forward: {text}", "6.6-",
        _ex(
            "refused local port forward: originator 127.0.0.1 port 1, target h port 2",
            text="originator 127.0.0.1 port 1, target h port 2",
        ),
    ),
    _note(
        "forward_denied",
        "Received request< from {addr} port {port}> to <connect to|remote forward>{text}, but the request was denied.",
        "6.6-",
        _ex("Received request to connect to host h port 2, but the request was denied.", text=" host h port 2"),
        _ex(
            "Received request from ::1 port 1 to remote forward to path \"/x\", but the request was denied.",
            addr="::1", port="1", text=' to path "/x"',
        ),
    ),
    _note(
        "forward_failed", "connect_to {text}", "6.6-",
        _ex("connect_to h port 2: failed.", text="h port 2: failed."),
    ),
    _note(
        "forward_bind",
        "<bind|bind [{laddr}]:{lport}|channel_setup_fwd_listener_tcpip|unix_listener|x11_create_display_inet>: {text}",
        "6.6-",
        _ex("bind [::1]:6010: Address already in use", laddr="::1", lport="6010", text="Address already in use"),
        _ex("unix_listener: cannot bind to path /x: No such file", text="cannot bind to path /x: No such file"),
    ),
    _note(
        "channel", "<channel {id}|chan_shutdown_<read|write>>: {text}", "6.6-",
        _ex("channel 2: chan_shutdown_read: x", id="2", text="chan_shutdown_read: x"),
        _ex("chan_shutdown_read: channel 2: x", text="channel 2: x"),
    ),
    _note("no_more_sessions", "no more sessions", "6.6-", _ex("no more sessions")),
    _note("pam_session", "PAM session not opened, exiting", "6.6-", _ex("PAM session not opened, exiting")),
    _note(
        "tunnel", "Tunnel forwarding using interface {tty}", "6.6-",
        _ex("Tunnel forwarding using interface tun0", tty="tun0"),
    ),
    _note(
        "root_command", "Root login accepted for forced command.", "6.6-",
        _ex("Root login accepted for forced command."),
    ),
    _note(
        "home", "Could not chdir to home directory {text}", "6.6-",
        _ex("Could not chdir to home directory /x: No such file", text="/x: No such file"),
    ),
    _note(
        "chroot", "<bad ownership or modes for chroot directory|Changed root directory to|chroot path> {text}",
        "6.6-",
        _ex('bad ownership or modes for chroot directory "/srv"', text='"/srv"'),
    ),
    _note(
        "login_records", "<syslogin_perform_logout|lastlog_openseek|lastlog_write_entry|lastlog_get_entry>: {text}",
        "6.6-",
        _ex("syslogin_perform_logout: logout() returned an error", text="logout() returned an error"),
    ),
    _note(
        "login_records_refused", "Attempt to write login records by non-root user (aborting)", "6.6-",
        _ex("Attempt to write login records by non-root user (aborting)"),
    ),
    _note(
        "sftp_opened", "session <opened|closed> for local user {user:known} from [{addr}]", "6.6-",
        _ex("session opened for local user bob from [10.0.0.5]", user="bob", addr="10.0.0.5"),
        _ex("session closed for local user bob from [::1]", user="bob", addr="::1"),
    ),
    _note(
        "sftp", "<received client version |opendir |closedir |open |close |forced close |sent status"
        " |remove name |rename old"
        " |mkdir name |rmdir name |set |statvfs |lstat name |stat name |realpath |readlink |symlink"
        " old |hardlink old >{text}",
        "6.6-",
        _ex('open "/tmp/x" flags READ mode 0666', text='"/tmp/x" flags READ mode 0666'),
        _ex('close "/tmp/x" bytes read 9 written 0', text='"/tmp/x" bytes read 9 written 0'),
    ),
)  # fmt: skip

# PAM modules log under sshd's tag, without sshd's escapes. The service is sshd, or what PAMServiceName says.
PAM_ROWS = (
    _note(
        "pam_opened",
        "<pam_{module}({service}): >session opened for user {user:known}<(uid={uid})> by {by}(uid={by_uid})",
        "pam",
        _ex(
            "pam_unix(sshd:session): session opened for user bob by (uid=0)",
            module="unix", service="sshd:session", user="bob", by="", by_uid="0",
        ),
        _ex(
            "pam_unix(sshd:session): session opened for user bob(uid=1000) by bob(uid=0)",
            module="unix", service="sshd:session", user="bob", uid="1000", by="bob", by_uid="0",
        ),
        _ex(
            "pam_unix(sshd:session): session opened for user bob(uid=1000) by (uid=0)",
            module="unix", service="sshd:session", user="bob", uid="1000", by="", by_uid="0",
        ),
        _ex("session opened for user bob by root(uid=0)", user="bob", by="root", by_uid="0"),
    ),
    Row(
        "pam_closed", "<pam_{module}({service}): >session closed for user {user}", "pam", "end",
        (
            _ex(
                "pam_unix(sshd:session): session closed for user bob",
                module="unix", service="sshd:session", user="bob",
            ),
            _ex("session closed for user bob", user="bob"),
        ),
    ),
    _note(
        "pam_failure",
        "<pam_{module}({service}): >authentication failure; logname={text:known} uid={uid} euid={by_uid} tty={tty} ruser={by:known}"
        " rhost=<{host}><< |  user={user:known}>>",
        "pam",
        _ex(
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser="
            " rhost=10.0.0.5  user=bob",
            module="unix", service="sshd:auth", text="", uid="0", by_uid="0", tty="ssh", by="", host="10.0.0.5",
            user="bob",
        ),
        _ex(  # pam_unix ends so where it knows no such user
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.5 ",
            module="unix", service="sshd:auth", text="", uid="0", by_uid="0", tty="ssh", by="", host="10.0.0.5",
        ),
        _ex(
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=  user=bob",
            module="unix", service="sshd:auth", text="", uid="0", by_uid="0", tty="ssh", by="", user="bob",
        ),
        _ex(
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.5",
            module="unix", service="sshd:auth", text="", uid="0", by_uid="0", tty="ssh", by="", host="10.0.0.5",
        ),
    ),
    _note(
        "pam_unknown", "<pam_{module}({service}): >check pass; user unknown", "pam",
        _ex("pam_unix(sshd:auth): check pass; user unknown", module="unix", service="sshd:auth"),
    ),
    _note(
        "pam_more", "<PAM >{count} more authentication failure<s|>; {text}", "pam",
        _ex("PAM 2 more authentication failures; logname= uid=0", count="2", text="logname= uid=0"),
    ),
    _note(
        "pam_retries", "PAM service({service}) ignoring max retries; {text}", "pam",
        _ex("PAM service(sshd) ignoring max retries; 6 > 3", service="sshd", text="6 > 3"),
    ),
    _note(
        "pam_module", "pam_{module}({service}): {text}", "pam",
        _ex(
            "pam_faillock(sshd:auth): User unknown", module="faillock", service="sshd:auth", text="User unknown",
        ),
        last=True,
    ),
    _note(
        "pam_library", "PAM <unable to dlopen|adding faulty module|audit_log_acct_message() failed>{text}",
        "pam",
        _ex("PAM adding faulty module: /lib/security/x.so", text=": /lib/security/x.so"),
    ),
)  # fmt: skip

# sshd.c: the listener itself.
DAEMON_ROWS = (
    _note(
        "listening", "Server listening on {text}", "6.6-",
        _ex("Server listening on 0.0.0.0 port 22.", text="0.0.0.0 port 22."),
    ),
    _note(
        "signal", "Received signal {signal}; terminating.", "6.6-",
        _ex("Received signal 15; terminating.", signal="15"),
    ),
    _note(
        "hangup", "Received SIGHUP; <restarting|waiting for children><.>", "6.6-",
        _ex("Received SIGHUP; restarting."),
    ),
    _note("exiting", "Exiting on signal {signal}", "6.6-", _ex("Exiting on signal 15", signal="15")),
    _note(
        "restart_failed", "RESTART FAILED: {text}", "6.6-",
        _ex("RESTART FAILED: av[0]='x'", text="av[0]='x'"),
    ),
    _note(
        "bind_failed", "<Bind to port |Cannot bind any address|listen on |socket: |accept: |fork: >{text}",
        "6.6-",
        _ex("Bind to port 22 on 0.0.0.0 failed: x.", text="22 on 0.0.0.0 failed: x."),
        last=True,
    ),
    _note(
        "host_key",
        "<Could not load host|Unable to load host|Could not demote|Public key for|Permissions|@@@@|It is required that"
        "|This private key will|Disabling protocol version|key_load_private:>{text}",
        "6.6-",
        _ex("Unable to load host key: /etc/ssh/k", text=" key: /etc/ssh/k"),
        _ex("Permissions 0644 for '/etc/ssh/k' are too open.", text=" 0644 for '/etc/ssh/k' are too open."),
        last=True,
    ),
    _note(
        "no_host_key", "sshd: no hostkeys available -- exiting.", "6.6-",
        _ex("sshd: no hostkeys available -- exiting."),
    ),
    _note(
        "privsep_missing", "<Missing privilege separation directory:|Privilege separation user> {text}", "6.6-",
        _ex("Missing privilege separation directory: /run/sshd", text="/run/sshd"),
    ),
    _note(
        "config_line", "{path:known} line {line}: {text}", "6.6-",
        _ex(
            "rexec line 12: Deprecated option UsePrivilegeSeparation",
            path="rexec", line="12", text="Deprecated option UsePrivilegeSeparation",
        ),
        _ex(
            "/etc/ssh/sshd_config line 3: Unsupported option X",
            path="/etc/ssh/sshd_config", line="3", text="Unsupported option X",
        ),
        last=True,
    ),
    _note(
        "config_lines", "{path:known}: terminating, {count} bad configuration options", "6.6-",
        _ex(
            "/etc/ssh/sshd_config: terminating, 2 bad configuration options", path="/etc/ssh/sshd_config", count="2",
        ),
        last=True,
    ),
    _note(
        "oom", "Set /proc/{text}", "6.6-",
        _ex("Set /proc/self/oom_score_adj to 0", text="self/oom_score_adj to 0"),
    ),
    _note(
        "internal_error", "INTERNAL ERROR: {text}", "6.6-",
        _ex("INTERNAL ERROR: authenticated and postponed", text="authenticated and postponed"),
    ),
    _note(
        "warning", "WARNING: {text}", "6.6-",
        _ex(
            "WARNING: /etc/ssh/moduli does not exist, using fixed modulus",
            text="/etc/ssh/moduli does not exist, using fixed modulus",
        ),
        last=True,
    ),
    _note(
        "repeated", "last message repeated {count} times", "rsyslog",
        _ex("last message repeated 3 times", count="3"),
    ),
)  # fmt: skip
