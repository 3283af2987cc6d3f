"""Acting: environments stepped together, planning, agents, comparison. Needs the extra `rl` (gymnasium, numba)."""

from konspekt.rl.a2c import A2C
from konspekt.rl.baselines import GradientMoments, SoftmaxProblem, numerical_gradient
from konspekt.rl.beside import Comparison
from konspekt.rl.comparison import bootstrap_interval, compare, interquartile_mean
from konspekt.rl.cross_entropy import CrossEntropyMethod
from konspekt.rl.cross_entropy_net import CrossEntropyNet
from konspekt.rl.cross_entropy_search import CrossEntropySearch
from konspekt.rl.double_q import DoubleQLearning
from konspekt.rl.dqn import DQN
from konspekt.rl.frames import film
from konspekt.rl.grids import draw_grid
from konspekt.rl.making import single
from konspekt.rl.mdp import MDP
from konspekt.rl.planner import Planner
from konspekt.rl.planning import (
    HorizonPlan,
    Plan,
    PolicyValues,
    finite_horizon,
    modified_policy_iteration,
    policy_iteration,
    policy_values,
    value_iteration,
)
from konspekt.rl.q_learning import QLearning
from konspekt.rl.reinforce import Reinforce
from konspekt.rl.sarsa import SARSA, ExpectedSARSA
from konspekt.rl.vector import Environments, Episode, Step

__all__ = [
    "A2C",
    "DQN",
    "MDP",
    "SARSA",
    "Comparison",
    "CrossEntropyMethod",
    "CrossEntropyNet",
    "CrossEntropySearch",
    "DoubleQLearning",
    "Environments",
    "Episode",
    "ExpectedSARSA",
    "GradientMoments",
    "HorizonPlan",
    "Plan",
    "Planner",
    "PolicyValues",
    "QLearning",
    "Reinforce",
    "SoftmaxProblem",
    "Step",
    "bootstrap_interval",
    "compare",
    "draw_grid",
    "film",
    "finite_horizon",
    "interquartile_mean",
    "modified_policy_iteration",
    "numerical_gradient",
    "policy_iteration",
    "policy_values",
    "single",
    "value_iteration",
]
