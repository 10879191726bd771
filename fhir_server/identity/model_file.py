"""The model of identity matching that this service decides with: the one that ships, or the file of a setting.

A file that was altered, is no model, or lacks a level is refused when the service starts: nothing is decided then.
"""

from pathlib import Path

from fhir_server.linkage.model import Model, ModelRefused, default_model, read_model
from fhir_server.outcomes import BadParameter

SETTING = "DMST_FHIR_IDENTITY_MODEL"


def model_of(file: Path | None, *, named_by: str = SETTING) -> Model:
    """The model in a file, or the one that ships where none is named.

    Raises BadParameter: the file cannot be read, does not match its checksum, lacks a level, or calls itself as the
    model that ships without being it (each decision keeps the version, so one version is one model).
    """
    shipped = default_model()
    if file is None:
        return shipped
    try:
        model = read_model(file.read_bytes())
    except OSError as error:
        raise BadParameter(f"{named_by}: this file cannot be read ({error.strerror})", expression=named_by) from None
    except ModelRefused as error:
        raise BadParameter(f"{named_by}: {error}", expression=named_by) from None
    if model.version == shipped.version and model.checksum != shipped.checksum:
        text = f"{named_by}: modèle refusé : la version {model.version} est celle d'un autre modèle ; lui en donner une"
        raise BadParameter(text, expression=named_by)
    return model
