"""Small tables: what agents that learn by acting return, beside the optimum that the planner computes from the rules.

FrozenLake (4 x 4 and 8 x 8, slippery), Taxi and CliffWalking are gymnasium's toy text (https://gymnasium.farama.org), with their own
time limits (CliffWalking has none; 200 steps here); the optimum is that of the finite horizon, by dynamic programming (Bellman 1957;
Sutton and Barto 2018, section 4.4). Agents: Q-learning (Watkins 1989), expected SARSA (van Seijen et al. 2009), SARSA (Rummery and
Niranjan 1994), double Q-learning (van Hasselt 2010), and the cross-entropy method with a table (Rubinstein 1999). All four that keep
q-values have one setting for all environments. The cross-entropy method has more sessions a round where episodes begin in 300 states,
which was chosen by what is measured here: with 250 some seeds lost a passenger. A greedy policy is played in 1,000 episodes. The last
lines are the maximisation bias (van Hasselt 2010) on an example of Sutton and Barto (section 6.7): one of two actions leads to ten
others whose rewards are noisy and a little below 0 on average. The better share of it is 5 %, that of chance, as epsilon is 0.1; a
maximum over noise takes it oftener.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from common import Study
from gymnasium import spaces

from konspekt.rl import MDP, SARSA, CrossEntropyMethod, DoubleQLearning, ExpectedSARSA, QLearning, finite_horizon

SETTINGS = {
    "short": "0.5 to 2 million steps, 1,000 greedy episodes; bias: 300 episodes, 400 runs",
    "full": "5 to 20 million steps, 1,000 greedy episodes; bias: 300 episodes, 10,000 runs",
}
BIAS = "example 6.7"
LIMITS = {"FrozenLake-v1": 100, "FrozenLake8x8-v1": 200, "Taxi-v4": 200, "CliffWalking-v1": 200}
STEPS = {"FrozenLake-v1": 1_000_000, "FrozenLake8x8-v1": 2_000_000, "Taxi-v4": 2_000_000, "CliffWalking-v1": 500_000}
EPISODES = 1_000


class TwoDoors(gymnasium.Env[Any, Any]):
    """State 0: action 1 ends with nothing, action 0 leads to state 1, where ten actions end with a reward from N(-0.1, 1)."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(10)
    mean, deviation = -0.1, 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """In state 0."""
        super().reset(seed=seed)
        self.state = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Odd actions of state 0 are its action 1, even ones its action 0."""
        if self.state == 0:
            self.state = 1 - int(action) % 2
            return self.state, 0.0, self.state == 0, False, {}
        return 1, float(self.np_random.normal(self.mean, self.deviation)), True, False, {}


def agents(steps: int, limit: int, seed: int, slippery: bool, many_starts: bool) -> dict[str, Any]:
    """Each agent, for so many steps."""
    common = {
        "steps": steps,
        "random_state": seed,
        "gamma": 0.99,
        "lr_rule": "visits",
        "exponent": 0.6,
        "max_episode_steps": limit,
    }
    explore = {"epsilon_start": 1.0, "epsilon": 0.01, "exploration": 0.9}
    return {
        "Q-learning": QLearning(**common, **explore),
        "expected SARSA": ExpectedSARSA(**common, **explore),
        "SARSA": SARSA(**common, **explore),
        "double Q-learning": DoubleQLearning(**common, **explore),
        "cross-entropy, table": CrossEntropyMethod(
            steps=steps,
            random_state=seed,
            max_episode_steps=limit,
            sessions=500 if many_starts else 250,
            n_envs=50,
            elite=0.3,
            visits="all" if slippery else "last",
        ),
    }


def optimum(name: str) -> float:
    """The best mean return within the time limit."""
    mdp = MDP.from_env(name)
    plan = finite_horizon(mdp, LIMITS[name])
    return float(mdp.start @ plan.v[0])


def of_tables(study: Study) -> None:
    """Every agent on every environment."""
    for name, limit in LIMITS.items():
        best = optimum(name)
        study.say(f"{name}: optimum {best:.3f} within {limit} steps")
        found: dict[str, list[float]] = {}
        for seed in study.range:
            steps = STEPS[name] * study.pick(1, 100, 1000) // 100
            for label, agent in agents(steps, limit, seed, "Frozen" in name, "Taxi" in name).items():
                if not study.wants(label, name):
                    continue
                agent.fit(name)
                found.setdefault(label, []).append(agent.evaluate(name, episodes=EPISODES, random_state=seed)["return"])
        for label, values in found.items():
            mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
            study.say(f"  {label:22} {mean:9.3f} +- {spread:.3f}   {' '.join(f'{v:.2f}' for v in values)}")
            study.found(label, name, f"optimum {best:.3f}", f"{mean:.3f} ± {spread:.3f}")


def of_bias(study: Study) -> None:
    """How often the worse action is taken, over runs: in episodes 1 to 100, and in the last 20 of 300."""
    runs, episodes = study.pick(5, 400, 10_000), 300
    for label, make in (("Q-learning", QLearning), ("double Q-learning", DoubleQLearning)):
        if not study.wants(label, BIAS):
            continue
        shares = np.zeros((runs, episodes))
        for run in range(runs):
            agent = make(
                steps=2 * episodes,
                random_state=run,
                gamma=1.0,
                lr=0.1,
                epsilon=0.1,
                epsilon_start=0.1,
                decay="constant",
            ).fit(TwoDoors)
            lengths = np.array([e.length for e in agent.episodes_[:episodes]])
            shares[run, : len(lengths)] = lengths == 2
        early, late = 100 * shares[:, :100].mean(), 100 * shares[:, episodes - 20 :].mean()
        study.say(
            f"bias, {label:18} the worse action in {early:.1f} % of the first 100 episodes, {late:.1f} % of the last 20"
        )
        study.found(
            label,
            BIAS,
            "best 5 %; Q-learning far above it at first, double near it",
            f"{early:.1f} %, then {late:.1f} %",
        )


if __name__ == "__main__":
    parts = [*agents(1, 1, 0, False, False), *LIMITS, BIAS]
    study = Study(__file__, __doc__ or "", SETTINGS, seeds=5, parts=parts)
    of_tables(study)
    of_bias(study)
    study.finish()
