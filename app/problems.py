"""The one vocabulary of expected failures, for HTTP answers and failed jobs alike."""

from __future__ import annotations

from app.design_problems import UnfitCellFilter as UnfitCellFilter
from app.design_problems import UnknownControlValue as UnknownControlValue
from app.design_problems import UnknownDesignColumn as UnknownDesignColumn
from app.rfc9457 import Fault as Fault
from app.rfc9457 import Problem as Problem
from app.rfc9457 import every_problem as every_problem
from app.save_problems import HubUnreachable as HubUnreachable
from app.save_problems import InconsistentSave as InconsistentSave
from app.save_problems import UnreadableSave as UnreadableSave
from app.save_problems import UnsafeSave as UnsafeSave
from app.save_problems import UnsupportedSave as UnsupportedSave

# What is wrong with an uploaded query -------------------------------------------------------


class UnknownBatchColumn(Problem):
    status = 422
    title = "The query has no such batch column."


class TooManyBatches(Problem):
    status = 422
    title = "The batch column has too many categories."


class UnknownLabelsColumn(Problem):
    status = 422
    title = "The query has no such labels column."


class UnknownCovariate(Problem):
    status = 422
    title = "The query lacks a covariate that the reference needs."


class TooFewGenes(Problem):
    status = 422
    title = "The query shares too few genes with the reference."


class SpeciesMismatch(Problem):
    status = 422
    title = "The query and the reference are of different species."


class NotCounts(Problem):
    status = 422
    title = "The matrix does not hold raw counts."


class NoCells(Problem):
    status = 422
    title = "The file holds no cells or no genes."


class UnknownLayer(Problem):
    status = 422
    title = "The file has no such matrix."


class AmbiguousFile(Problem):
    status = 422
    title = "The file holds several matrices, and the request does not say which."


class UnreadableFile(Problem):
    status = 422
    title = "The file cannot be read as any format of a query."


class UnsupportedFile(Problem):
    status = 422
    title = "The file uses a structure that is not accepted."


class FileTooLarge(Problem):
    status = 422
    title = "The file declares more data than is accepted."


class EmptyFile(Problem):
    status = 422
    title = "The file is empty."


class InputKindMismatch(Problem):
    status = 422
    title = "The query's kind of values is not what the reference was trained on."


class UnexportableMapping(Problem):
    status = 422
    title = "There is no such model where the mapping is to go."


class UnfitCells(Problem):
    status = 422
    title = "The cells are not those of the saved model."


class InvalidReferenceFile(Problem):
    status = 422
    title = "The file is not a reference that can be imported."


class UntrustedReferenceFile(Problem):
    status = 422
    title = "Nobody who is trusted has signed the reference file."


class UnknownOutput(Problem):
    status = 422
    title = "The reference has no such output."


class NotFinite(Problem):
    status = 422
    title = "The mapping gives numbers that are not finite."


# What does not exist, or not for this caller --------------------------------------------------


class UnknownReference(Problem):
    status = 404
    title = "There is no such reference."


class UnknownQuery(Problem):
    status = 404
    title = "There is no such query."


class UnknownMapping(Problem):
    status = 404
    title = "There is no such mapping."


class UnknownInspection(Problem):
    status = 404
    title = "There is no such inspection."


class UnknownRanking(Problem):
    status = 404
    title = "The query's references have not been ranked."


class UnknownResult(Problem):
    status = 404
    title = "The mapping has no such result."


class UnknownGoldenQuery(Problem):
    status = 404
    title = "There is no such golden query."


class UnknownKey(Problem):
    status = 404
    title = "There is no such API key."


class FileGone(Problem):
    status = 410
    title = "The file is not in the store any more."


class NotFound(Problem):
    status = 404
    title = "There is nothing at this address."


# What does not go together with the present state ----------------------------------------------


class ReferenceNotReady(Problem):
    status = 409
    title = "The reference version cannot take queries now."


class ReferenceExists(Problem):
    status = 409
    title = "A version of this reference is already being built."


class ReferenceVersionTaken(Problem):
    status = 409
    title = "The reference has a version of this number already."


class ReferenceBuilding(Problem):
    status = 409
    title = "The reference version is still being built."


class ReferenceInUse(Problem):
    status = 409
    title = "Mappings depend on this reference version."


class WrongReferenceState(Problem):
    status = 409
    title = "The reference version's state does not allow this."


class QueryRejected(Problem):
    status = 409
    title = "The query was rejected and cannot be used."


class QueryHasMappings(Problem):
    status = 409
    title = "The query has mappings."


class QueryInUse(Problem):
    status = 409
    title = "A reference is being built from this query."


class MappingNotFinished(Problem):
    status = 409
    title = "The mapping has no results yet."


class AlreadyFinished(Problem):
    status = 409
    title = "The job has already finished."


class SimultaneousChange(Problem):
    status = 409
    title = "Another request changed the same thing at the same moment."
    fault = "service"


class IdempotencyKeyInProgress(Problem):
    status = 409
    title = "Another request with this Idempotency-Key is being answered."
    fault = "service"


class IdempotencyKeyReused(Problem):
    status = 422
    title = "This Idempotency-Key belongs to a different request."


# Doors ------------------------------------------------------------------------------------------


class Unauthenticated(Problem):
    status = 401
    title = "A valid API key is needed."


class Forbidden(Problem):
    status = 403
    title = "This API key may not do that."


class ForeignOrigin(Problem):
    status = 403
    title = "Requests from other web sites are refused."


# Requests and uploads ---------------------------------------------------------------------------


class BodyTooLarge(Problem):
    status = 413
    title = "The request's body is over the limit."


class LengthMismatch(Problem):
    status = 400
    title = "The number of bytes differs from what was declared."


class DigestMismatch(Problem):
    status = 422
    title = "The bytes received are not the bytes that were declared."


class ContentRangeUnsupported(Problem):
    status = 501
    title = "Uploads in parts are not supported."


class UploadStalled(Problem):
    status = 408
    title = "The upload stood still for too long."


class MalformedRequest(Problem):
    status = 422
    title = "The request is not understood."


class MalformedUpload(Problem):
    status = 400
    title = "The upload is not understood."


class UnsupportedMediaType(Problem):
    status = 415
    title = "This content type is not accepted."


class MethodNotAllowed(Problem):
    status = 405
    title = "This address does not answer to that method."


class NotAcceptable(Problem):
    status = 406
    title = "None of the formats asked for is available."


class RangeNotSatisfiable(Problem):
    status = 416
    title = "The range lies outside the file."


# The service's own faults -------------------------------------------------------------------------


class DiskFull(Problem):
    status = 507
    title = "There is not enough disk space."
    fault = "service"


class ServiceBusy(Problem):
    status = 503
    title = "The service cannot reach its database at the moment."
    fault = "service"


class StorageAway(Problem):
    status = 503
    title = "The service cannot reach its file store at the moment."
    fault = "service"


class StoredFileDamaged(Problem):
    status = 500
    title = "A stored file is not what was recorded of it."
    fault = "service"


class WorkerLost(Problem):
    status = 500
    title = "The worker died while it worked on this job."
    fault = "service"


class JobTimeout(Problem):
    status = 422
    title = "The job took longer than is allowed."


class UntrainableReference(Problem):
    status = 422
    title = "A reference cannot be built from these cells."


class SelfTestFailed(Problem):
    status = 500
    title = "The new reference did not pass its self-test."
    fault = "service"


class DamagedReference(Problem):
    status = 500
    title = "The reference's files are not what its manifest says."
    fault = "service"


class InternalFault(Problem):
    status = 500
    title = "The service failed."
    fault = "service"
