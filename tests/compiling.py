"""How XLA compiles for tests, and for those that read what it compiled.

Compiling takes longer than running here: half as long without optimisation,
and a third of that where fusions go straight to LLVM, in one module, which
the XLA of jaxlib 0.10 still can. What starts Python without these flags
compiles as trainings do.
"""

from importlib import metadata

OLD_FUSIONS = metadata.version("jaxlib").startswith("0.10.")
FLAGS = " ".join(
  (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    *(["--xla_cpu_use_fusion_emitters=false"] if OLD_FUSIONS else []),
  )
)
# Options of `Lowered.compile`: fusions as trainings have them.
AS_TRAININGS = {"xla_cpu_use_fusion_emitters": True} if OLD_FUSIONS else {}
