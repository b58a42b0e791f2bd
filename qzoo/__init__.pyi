# Every public name, and where it lives. `__init__.py` reads this table and loads each name when it is first used.
from . import compat, errors
from .commands.recommend import recommend
from .commands.release.pull import pull
from .commands.release.push import Pushed, push
from .commands.reproduce import reproduce
from .commands.settings import Settings
from .commands.solve import Solved, solve
from .commands.verify import Verified, verify
from .data.own_datasets import register_dataset
from .data_free.batch_norms import UntrainedStatisticsWarning
from .errors import (
    ArgumentError,
    CalibrationError,
    DataError,
    NotCalibratedError,
    PeerError,
    QzooError,
    RecipeError,
    RuleError,
    TrainingError,
    UnknownNameError,
    UnsupportedError,
    WeightsError,
)
from .hub.released_model import ReleasedModel
from .models.float_weights import FloatWeightsWarning
from .models.heads import ReplacedHeadWarning
from .models.image_transform import DefaultTransformWarning
from .models.own_models import register_model
from .models.shared_quantizers import LearnedApartWarning
from .progress import Progress
from .quant.calibration.collecting import ClippedNegativesWarning, DeadActivationWarning
from .quant.quantizer import TensorQuantizer, UncalibratedWarning
from .report.html.write import html
from .results.benchmark import BenchmarkReport
from .results.calibration import Calibrated
from .results.check import CheckedQuantizer, CheckReport
from .results.comparison import CompareRow, Comparison
from .results.details import Details
from .results.explanation import Explanation
from .results.export import ExportReport, Finding, Parity
from .results.optimization import Optimization
from .results.recommendation import Recommendation
from .results.reproduce import Report, ReportRow
from .results.search import SearchReport
from .results.sensitivity import SensitivityReport
from .results.training import TrainingReport
from .results.verification import VerificationReport
from .results.zoo import ZooRow
from .runtimes.lint import LintReport
from .schema.finetune import FinetuneSpec
from .schema.optimize import OptimizeSpec
from .schema.reading.recipe_folders import FaultyRecipeWarning
from .schema.recipe import Recipe, Scheme, Variant
from .schema.resolution.percentiles import UnlikelyPercentileWarning
from .schema.rule import Rule
from .tasks.evaluate import Evaluation
from .tasks.finetune import finetune
from .tasks.lint import lint
from .tasks.lost_rounding import LostRoundingWarning
from .tasks.measuring.machine import SaturationWarning
from .tasks.saving import load
from .tasks.training_run import Run
from .weights.base_weights import NewHeadWarning
from .zoo.create import create, list_models, quantize, recipe, transform
from .zoo.data_free import DataFreeRangesWarning
from .zoo.pretrained import OtherImagesWarning, UnpinnedWeightsWarning
from .zoo.search_by_name import search
from .zoo.table import zoo_table
from .zoo.tasks_by_name import (
    benchmark,
    calibrate,
    check,
    compare,
    evaluate,
    explain,
    export,
    optimize,
    save,
    sensitivity,
)

__version__: str

__all__ = [
    "ArgumentError",
    "BenchmarkReport",
    "Calibrated",
    "CalibrationError",
    "CheckReport",
    "CheckedQuantizer",
    "ClippedNegativesWarning",
    "CompareRow",
    "Comparison",
    "DataError",
    "DataFreeRangesWarning",
    "DeadActivationWarning",
    "DefaultTransformWarning",
    "Details",
    "Evaluation",
    "Explanation",
    "ExportReport",
    "FaultyRecipeWarning",
    "Finding",
    "FinetuneSpec",
    "FloatWeightsWarning",
    "LearnedApartWarning",
    "LintReport",
    "LostRoundingWarning",
    "NewHeadWarning",
    "NotCalibratedError",
    "Optimization",
    "OptimizeSpec",
    "OtherImagesWarning",
    "Parity",
    "PeerError",
    "Progress",
    "Pushed",
    "QzooError",
    "Recipe",
    "RecipeError",
    "Recommendation",
    "ReleasedModel",
    "ReplacedHeadWarning",
    "Report",
    "ReportRow",
    "Rule",
    "RuleError",
    "Run",
    "SaturationWarning",
    "Scheme",
    "SearchReport",
    "SensitivityReport",
    "Settings",
    "Solved",
    "TensorQuantizer",
    "TrainingError",
    "TrainingReport",
    "UncalibratedWarning",
    "UnknownNameError",
    "UnlikelyPercentileWarning",
    "UnpinnedWeightsWarning",
    "UnsupportedError",
    "UntrainedStatisticsWarning",
    "Variant",
    "VerificationReport",
    "Verified",
    "WeightsError",
    "ZooRow",
    "benchmark",
    "calibrate",
    "check",
    "compare",
    "compat",
    "create",
    "errors",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "html",
    "lint",
    "list_models",
    "load",
    "optimize",
    "pull",
    "push",
    "quantize",
    "recipe",
    "recommend",
    "register_dataset",
    "register_model",
    "reproduce",
    "save",
    "search",
    "sensitivity",
    "solve",
    "transform",
    "verify",
    "zoo_table",
]
