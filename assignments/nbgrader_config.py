"""nbgrader's settings for this course: where things are, how long a cell may take, what is kept.

Run nbgrader in this folder, or in the instructor's pack, which is a copy of it.
"""

import os
import sys
import warnings
from pathlib import Path

from traitlets.config import get_config

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # for preprocess.py

# The hidden checks are loaded from here by their path, never from beside a submission.
os.environ["NGS_COURSE_HIDDEN"] = str(HERE / "hidden")
# Two graders on two cores: threads that wait for a core slow small tensors down a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# nbgrader calls alembic by its bare name, which fails where the environment is not activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

# SQLAlchemy 2.1 remarks on how nbgrader 0.9.6 makes its objects; they are saved all the same.
warnings.filterwarnings("ignore", message="Object of type <Submitted")

c = get_config()
# In place of nbgrader's DeduplicateIds: one student's duplicated cell must not end the grading of
# all, nor a deleted check the student's own.
c.Autograde.sanitize_preprocessors = [
    "nbgrader.preprocessors.ClearOutput",
    "preprocess.RepairCells",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# Without the first of these, a check that shows nothing would earn its full marks.
marks = [
    "preprocess.RequireOutcomes",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "nbgrader.preprocessors.Execute",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    *marks,
]

# grade.py runs students' code in a container, and then asks for the marks of what came out: those
# notebooks are executed, and are not executed again.
if os.environ.get("NGS_COURSE_EXECUTED"):
    c.Autograde.sanitize_preprocessors.remove("nbgrader.preprocessors.ClearOutput")
    c.Autograde.autograde_preprocessors = marks

# Seconds for one cell. A loop that never ends is interrupted, costs its own points, and the
# rest is graded; what does not let itself be interrupted is ended by the container's limit.
c.Execute.timeout = int(120 * float(os.environ.get("NGS_COURSE_PATIENCE", "1")))
c.Execute.interrupt_on_timeout = True
c.LimitOutput.max_lines = 200
c.LimitOutput.max_traceback = 20
