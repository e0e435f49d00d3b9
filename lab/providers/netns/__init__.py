"""Labs made of Linux namespaces: nothing to install but the image, no root needed."""

from lab.providers.netns.provider import PROVIDER

__all__ = ["PROVIDER"]
