package peer;

import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.rest.api.RestOperationTypeEnum;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.interceptor.RequestValidatingInterceptor;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ValidationResult;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;

/** Validates every body as it came, before it is parsed, and fails transactions on demand. */
final class Judge extends RequestValidatingInterceptor {
    private static final Set<RestOperationTypeEnum> WRITES =
            Set.of(RestOperationTypeEnum.CREATE, RestOperationTypeEnum.UPDATE, RestOperationTypeEnum.TRANSACTION);

    final AtomicInteger received = new AtomicInteger();
    final AtomicInteger rejected = new AtomicInteger();
    private int failuresLeft;
    private int failureStatus;

    Judge(FhirValidator validator) {
        setValidator(validator);
    }

    /** The next {@code times} transactions are answered {@code status}, and nothing of them is looked at. */
    synchronized void failNext(int times, int status) {
        failuresLeft = times;
        failureStatus = status;
    }

    @Override
    @Hook(Pointcut.SERVER_INCOMING_REQUEST_POST_PROCESSED)
    public boolean incomingRequestPostProcessed(
            RequestDetails request, HttpServletRequest servletRequest, HttpServletResponse servletResponse) {
        RestOperationTypeEnum interaction = request.getRestOperationType();
        if (WRITES.contains(interaction)) {
            received.incrementAndGet();
        }
        if (interaction == RestOperationTypeEnum.TRANSACTION) {
            failIfAsked();
        }
        return super.incomingRequestPostProcessed(request, servletRequest, servletResponse);
    }

    @Override
    protected void fail(RequestDetails request, ValidationResult result) {
        rejected.incrementAndGet();
        super.fail(request, result);
    }

    private synchronized void failIfAsked() {
        if (failuresLeft > 0) {
            failuresLeft--;
            throw BaseServerResponseException.newInstance(failureStatus, "Failure asked for by the test");
        }
    }
}
