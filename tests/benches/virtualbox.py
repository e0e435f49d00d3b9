"""Labs of VirtualBox machines, in a VirtualBox of their own: the testbed's."""
