"""What stands out in what the monitor and the gateways have written."""
