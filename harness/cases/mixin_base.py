"""What the mixins believe to stand on: a TestCase, whichever one a class names beside them."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    MixinBase = unittest.TestCase
else:
    MixinBase = object
