"""The trigger: Alertmanager's webhook, which starts a round of monitoring when an alert asks for one."""
