"""From 'ssh answers' to 'the service answers', over paramiko."""
