"""Delivery of alerts to people: webhooks and Alertmanager."""

from monitor.notify.alertmanager import Alertmanager
from monitor.notify.endpoint import Endpoint
from monitor.notify.metrics import NotifyMetrics
from monitor.notify.notifier import Notifier
from monitor.notify.receiver import Receiver
from monitor.notify.webhook import Webhook

__all__ = ["Alertmanager", "Endpoint", "Notifier", "NotifyMetrics", "Receiver", "Webhook"]
