"""Importing this fills the table of subjects: pictures, arrays, texts, records, models."""

from fuzzing import arrays, models, pictures, records, texts
from fuzzing.subject import SUBJECTS as SUBJECTS

__all__ = ["SUBJECTS", "arrays", "models", "pictures", "records", "texts"]
