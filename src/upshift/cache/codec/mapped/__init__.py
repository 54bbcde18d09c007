"""Mapped objects as bytes: their columns, and what of their relationships was loaded.

Flows in: objects of SQLAlchemy's that a function returned. Flows out: bytes, and from them objects of their
own for each who asks, as they were when a query had just loaded them.

Objects of one class of which the same attributes are loaded form a group. A group has its columns one after
the other, each as a list of one type, so that msgspec reads it in C. Relationships are numbers of other
objects in the same payload, so what was one object is one again, and cycles are no trouble.

What is not loaded stays so: a deferred column, a relationship that nobody read. In a session it is loaded
when it is read; without one SQLAlchemy says that the object is detached, as always.
"""
