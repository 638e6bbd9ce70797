"""Importing this fills the table of subjects: pictures, arrays, texts, data sets, records, models."""

from fuzzing import arrays, data_sets, models, pictures, records, texts
from fuzzing.subject import SUBJECTS as SUBJECTS

__all__ = ["SUBJECTS", "arrays", "data_sets", "models", "pictures", "records", "texts"]
