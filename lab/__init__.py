"""What a lab is and how it comes and goes. Knows no chat, no capture, no experiment."""
