"""What the tasks call: the rooms put together, and how their results are shown."""
