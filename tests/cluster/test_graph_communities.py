"""Communities: Zachary's karate club and its published modularity, networkx's own, every form of a graph, refusals."""

import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from konspekt.cluster.graph_communities import communities
from konspekt.core.errors import ConfigError, DataError


def karate():
    """Without the weights, of which the published values know nothing."""
    graph = nx.karate_club_graph()
    for _, _, data in graph.edges(data=True):
        data.clear()
    return graph


def two_rooms(bridge=0.1):
    """Five and four nodes, each with edges among themselves, and a weak edge between."""
    W = np.zeros((9, 9))
    W[:5, :5] = W[5:, 5:] = 1
    np.fill_diagonal(W, 0)
    W[0, 5] = W[5, 0] = bridge
    return W


def test_the_karate_club_has_its_published_modularity():
    for seed in range(3):
        found = communities(karate(), random_state=seed)
        assert found.modularity_ == pytest.approx(0.4198, abs=5e-5)  # the optimum: Brandes et al. 2008
        assert found.n_communities_ == 4
    greedy = communities(karate(), n_communities=3)
    assert greedy.modularity_ == pytest.approx(0.3807, abs=5e-5)  # Clauset, Newman & Moore 2004
    assert [len(g) for g in greedy.groups()] == [17, 9, 8]
    club = [karate().nodes[n]["club"] for n in karate()]
    halves = communities(karate(), "spectral", n_communities=2, random_state=0)
    assert adjusted_rand_score(club, halves.labels_) > 0.75  # all but two of 34


@pytest.mark.parametrize("resolution", [0.5, 1.0, 2.0])
def test_modularity_is_networkxs_with_weights_and_loops(resolution):
    graph = nx.karate_club_graph()
    graph.add_edge(0, 0, weight=3)
    graph.add_edge(7, 7)
    for found in (
        communities(graph, resolution=resolution, random_state=0),
        communities(graph, "spectral", resolution=resolution),
    ):
        wanted = nx.community.modularity(graph, found.groups(), resolution=resolution)
        assert found.modularity_ == pytest.approx(wanted, abs=1e-12)
    few, many = (communities(graph, resolution=r, random_state=0).n_communities_ for r in (0.2, 3.0))
    assert few < many


def test_modularity_of_two_cliques_by_hand():
    found = communities(two_rooms(bridge=1.0), random_state=0)
    # 17 edges: 10 and 6 within, 21 and 13 of 34 ends
    assert found.modularity_ == pytest.approx(16 / 17 - (21 / 34) ** 2 - (13 / 34) ** 2, rel=1e-12)


@pytest.mark.parametrize("method", ["modularity", "spectral"])
@pytest.mark.parametrize("n_communities", [None, 2])
def test_every_form_of_a_graph_gives_the_same(method, n_communities):
    W = two_rooms()
    names = list("abcdefghi")
    graph = nx.relabel_nodes(nx.from_numpy_array(W), dict(enumerate(names)))
    edges = [(names[i], names[j], W[i, j]) for i in range(9) for j in range(i + 1, 9) if W[i, j]]
    halves = [(u, v, w / 2) for u, v, w in edges]
    forms = {
        "array": W,
        "csr": sparse.csr_array(W),
        "coo": sparse.coo_matrix(W),
        "networkx": graph,
        "edges": edges,
        "twice": halves + halves,
    }
    for name, form in forms.items():
        found = communities(form, method, n_communities=n_communities, random_state=0)
        assert found.labels_.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1], name
        assert list(found.nodes) == (names if name in ("networkx", "edges", "twice") else list(range(9))), name
    assert communities(np.array([(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)])).labels_.tolist() == [
        0,
        0,
        0,
        1,
        1,
        1,
    ]
    many = nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 3), (2, 3)])
    assert communities(many).adjacency[0, 1] == 2


def test_a_chain_of_cliques_is_found_by_both():
    graph = nx.ring_of_cliques(6, 7)
    truth = np.repeat(range(6), 7)
    for method in ("modularity", "spectral"):
        assert adjusted_rand_score(truth, communities(graph, method, random_state=0).labels_) == 1.0, method


def test_pieces_without_an_edge_between_them():
    graph = nx.disjoint_union_all([nx.complete_graph(5), nx.complete_graph(4), nx.complete_graph(3)])
    for method in ("modularity", "spectral"):
        assert communities(graph, method).labels_.tolist() == [0] * 5 + [1] * 4 + [2] * 3
        assert communities(graph, method, n_communities=2).n_communities_ == 2
    with pytest.raises(DataError, match="falls into 30 pieces"):
        communities(nx.disjoint_union_all([nx.path_graph(2)] * 30), "spectral")


def test_the_same_seed_gives_the_same():
    graph = nx.gnp_random_graph(80, 0.1, seed=0)
    for method in ("modularity", "spectral"):
        one, two = (communities(graph, method, n_communities=None, random_state=3) for _ in range(2))
        assert np.array_equal(one.labels_, two.labels_)


def test_a_picture():
    figure = communities(karate(), random_state=0).figure()
    drawn = figure.axes[0].collections[-1].get_segments()
    assert len(drawn) == 78  # edges
    assert "4 communities, modularity 0.420" in figure.axes[0].get_title(loc="left")
    with pytest.raises(ConfigError, match="2,500 nodes"):
        communities(nx.grid_2d_graph(50, 50), "spectral", n_communities=2, random_state=0).figure()


def skew():
    W = two_rooms()
    W[1, 2] = 0.25
    return W


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (nx.DiGraph([(0, 1)]), r"directed; give graph.to_undirected\(\)"),
        (nx.Graph([(0, 1, {"weight": -2})]), "between 0 and 1 has the weight -2"),
        (nx.Graph([(0, 1, {"weight": "thick"})]), "an edge's weight is no number"),
        ([("a", "b", 1.0), ("a", "b", -1.0)], "between 'a' and 'b' has the weight -1"),
        ([("a", "b", np.nan)], "has the weight nan"),
        (-two_rooms(), "between 0 and 1 has the weight -1"),
        (two_rooms() * np.nan, "has the weight nan"),
        (skew(), "0.25 at 1, 2 stands against 1 at 2, 1"),
        (sparse.csr_array(np.ones((2, 3))), r"its shape is \(2, 3\)"),
        (np.zeros((4, 4)), "4 nodes and no edge"),
        (nx.empty_graph(3), "3 nodes and no edge"),
        ([], "0 nodes and no edge"),
        (nx.Graph(), "0 nodes and no edge"),
        ([(0, 1), (1, 2, 3, 4)], r"entry 1 is \(1, 2, 3, 4\)"),
        ([([], 1)], "cannot be used"),
        ("karate", "not str"),
        (7, "not int"),
    ],
)
def test_what_is_no_graph_is_refused(graph, said):
    with pytest.raises(DataError, match=said):
        communities(graph)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "louvain"}, "method must be 'modularity' or 'spectral', got 'louvain'"),
        ({"n_communities": 0}, "n_communities must be an integer at least 1, or None, got 0"),
        ({"n_communities": True}, "got True"),
        ({"resolution": 0}, "resolution must be more than 0, got 0"),
        ({"random_state": -1}, "random_state must be an integer at least 0, or None, got -1"),
    ],
)
def test_parameters(settings, said):
    with pytest.raises(ConfigError, match=said):
        communities(two_rooms(), **settings)
    with pytest.raises(DataError, match="n_communities=10 is more than the 9 nodes"):
        communities(two_rooms(), n_communities=10)


@pytest.mark.parametrize("method", ["modularity", "spectral"])
def test_weights_whose_squares_overflow_are_refused(method):
    with pytest.raises(DataError, match=r"a weight is as large as 1e\+300, the square of which overflows"):
        communities([(1, 2, 1e300), (2, 3, 1.0)], method)
