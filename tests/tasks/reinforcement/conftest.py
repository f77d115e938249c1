from calls import call

__all__ = ["call"]
