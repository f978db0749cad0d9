//! What the server costs while it is loaded: CPU time and memory of its process, and the kernel's memory for sockets.
