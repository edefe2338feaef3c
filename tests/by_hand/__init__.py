"""The Dockerfile without a container engine: each step by hand, in a root made by debootstrap. For Linux, as root.

dockerfile.py reads it, host.py says what of this machine's package clients goes in, room.py is a root with layers and
namespaces, build.py takes the steps, container.py starts the image, checks.py looks at it, __main__.py is the command.
"""
