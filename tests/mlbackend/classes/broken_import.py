"""A module that cannot be imported."""

import no_such_library_anywhere  # type: ignore[import-not-found]  # that is the point

Model = no_such_library_anywhere.Model
