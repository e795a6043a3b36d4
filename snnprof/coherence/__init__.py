"""Theorem 4.2 on live networks: gradients of online training against STBP's."""
