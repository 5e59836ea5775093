"""Property tests run without a deadline: a machine that is busy is no mistake of ours."""

from hypothesis import settings

settings.register_profile("osr", deadline=None)
settings.load_profile("osr")
