"""A fit that is broken off, and one that is not."""

import pytest


class BrokenOff(Exception):
    """Leaves the run as a kill would."""


@pytest.fixture
def resumed_beside_whole(tmp_path):
    """The agent that was fitted at once, and the one whose fit was broken off after a step or an epoch (a round) and resumed.

    make: an agent with a run folder. after: the number of the step or epoch.
    """

    def fit(make, env, event, after):
        def stop(moment):
            if moment.event == event and getattr(moment, event) == after:
                raise BrokenOff

        whole = make(str(tmp_path / "whole")).fit(env)
        folder = str(tmp_path / "broken")
        with pytest.raises(BrokenOff):
            make(folder).fit(env, callbacks=[stop])
        return make(folder).fit(env, resume=folder), whole

    return fit
