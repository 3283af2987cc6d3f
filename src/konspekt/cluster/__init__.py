"""Clusters: methods, tests whether there are any, generators of shapes, comparison."""

from konspekt.cluster.agglomerative import AgglomerativeClustering
from konspekt.cluster.choices import Choice
from konspekt.cluster.choosing import choose_k
from konspekt.cluster.comparison import compare
from konspekt.cluster.dbscan import DBSCAN, k_distances
from konspekt.cluster.divisive import DivisiveClustering
from konspekt.cluster.gaussian_mixture import GaussianMixture
from konspekt.cluster.generators import shapes
from konspekt.cluster.graph_communities import Communities, communities
from konspekt.cluster.image_segments import Segments, segment_image
from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.kmedians import KMedians
from konspekt.cluster.mean_shift import MeanShift, bandwidth_of
from konspekt.cluster.pictures import draw_clusters, draw_frames, save_frames
from konspekt.cluster.presence import Tendency, tendency
from konspekt.cluster.radius_graph import GraphClustering
from konspekt.cluster.side_by_side import Comparison
from konspekt.cluster.spectral import SpectralClustering

__all__ = [
    "DBSCAN",
    "AgglomerativeClustering",
    "Choice",
    "Communities",
    "Comparison",
    "DivisiveClustering",
    "GaussianMixture",
    "GraphClustering",
    "KMeans",
    "KMedians",
    "MeanShift",
    "Segments",
    "SpectralClustering",
    "Tendency",
    "bandwidth_of",
    "choose_k",
    "communities",
    "compare",
    "draw_clusters",
    "draw_frames",
    "k_distances",
    "save_frames",
    "segment_image",
    "shapes",
    "tendency",
]
