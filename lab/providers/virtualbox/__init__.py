"""Labs made of VirtualBox machines."""
