"""Poisson meshing by pycolmap. Arguments: the cloud, the mesh, trim, and threads."""
import sys

import pycolmap

cloud, mesh, trim, threads = sys.argv[1:5]
options = pycolmap.PoissonMeshingOptions()
options.trim = float(trim)
options.num_threads = int(threads)
pycolmap.poisson_meshing(cloud, mesh, options)
