package peer;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import com.google.gson.JsonParseException;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r4.model.Binary;
import org.hl7.fhir.r4.model.DocumentReference;
import org.hl7.fhir.r4.model.ListResource;
import org.hl7.fhir.r4.model.Organization;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Practitioner;
import org.hl7.fhir.r4.model.PractitionerRole;
import org.hl7.fhir.r5.utils.validation.constants.BestPracticeWarningLevel;

/**
 * A FHIR R4 server for tests, on loopback: HAPI's plain server over memory, with HAPI's instance validator at its door.
 *
 * <p>Argument: the port (0 takes a free one). Writes the port on a line of standard output once it answers, and leaves
 * when its standard input closes, so that it never outlives the test run that started it.
 */
public final class Peer {

    public static void main(String[] arguments) throws Exception {
        // The port first: if it is taken, nobody waits for the definitions of R4 to learn it.
        Server jetty = new Server();
        ServerConnector connector = new ServerConnector(jetty);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(arguments[0]));
        connector.open();
        jetty.addConnector(connector);

        FhirContext fhir = FhirContext.forR4();
        Store store = new Store();
        Judge judge = new Judge(validator(fhir));

        RestfulServer rest = new RestfulServer(fhir);
        rest.setResourceProviders(
                new Records<>(Binary.class, store),
                new IdentifiedRecords<>(Patient.class, store),
                new IdentifiedRecords<>(Organization.class, store),
                new IdentifiedRecords<>(Practitioner.class, store),
                new IdentifiedRecords<>(PractitionerRole.class, store),
                new PatientRecords<>(DocumentReference.class, store),
                new PatientRecords<>(ListResource.class, store));
        rest.registerProvider(new Transactions(fhir, store));
        rest.registerInterceptor(judge);

        ServletContextHandler context = new ServletContextHandler("/");
        context.addServlet(new ServletHolder(rest), "/fhir/*");
        context.addServlet(new ServletHolder(new JudgeDesk(judge, store)), "/judge/*");
        jetty.setHandler(context);
        jetty.start();
        System.out.println(connector.getLocalPort());

        while (System.in.read() >= 0) {}
        System.exit(0);
    }

    /** Base R4, strictly; what this machine cannot know (national profiles and code systems) is only a warning. */
    private static FhirValidator validator(FhirContext fhir) {
        UnknownCodeSystemWarningValidationSupport unknownCodeSystems = new UnknownCodeSystemWarningValidationSupport(fhir);
        unknownCodeSystems.setNonExistentCodeSystemSeverity(IssueSeverity.WARNING);
        FhirInstanceValidator instances = new FhirInstanceValidator(new ValidationSupportChain(
                new DefaultProfileValidationSupport(fhir),
                new InMemoryTerminologyServerValidationSupport(fhir),
                new CommonCodeSystemsTerminologyService(fhir),
                unknownCodeSystems));
        instances.setErrorForUnknownProfiles(false);
        instances.setBestPracticeWarningLevel(BestPracticeWarningLevel.Ignore);

        FhirValidator validator = fhir.newValidator().registerValidatorModule(body -> {
            try {
                instances.validateResource(body);
            } catch (JsonParseException notJson) {
                // Left alone, HAPI answers 500, which a sender may take for a reason to send the same again.
                SingleValidationMessage message = new SingleValidationMessage();
                message.setSeverity(ResultSeverityEnum.FATAL);
                message.setMessage("The body is not JSON");
                body.addValidationMessage(message);
            }
        });
        // The first validation loads the definitions of R4, for seconds: better now than in somebody's first request.
        validator.validateWithResult("{\"resourceType\": \"Patient\", \"gender\": \"female\"}");
        return validator;
    }
}
