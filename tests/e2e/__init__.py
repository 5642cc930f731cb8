"""Tests against the real parts: kernel auditing, auditd, journald, rsyslog, sshd, sudo, cron."""
