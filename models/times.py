"""The latest time that a rating may have, in files and in requests."""

LAST_SECOND = 4_102_444_800  # 2100-01-01; a later time is mostly in milliseconds
