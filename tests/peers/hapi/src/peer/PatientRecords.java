package peer;

import ca.uhn.fhir.rest.annotation.OptionalParam;
import ca.uhn.fhir.rest.annotation.Search;
import ca.uhn.fhir.rest.param.ReferenceParam;
import ca.uhn.fhir.rest.param.TokenOrListParam;
import ca.uhn.fhir.rest.param.TokenParam;
import java.util.List;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Resource;

/** Records about a patient, searched by that patient too, or by an identifier of that patient (ITI-66, ITI-67). */
final class PatientRecords<T extends Resource> extends IdentifiedRecords<T> {

    PatientRecords(Class<T> type, Store store) {
        super(type, store);
    }

    @Search
    public List<T> searchByPatient(
            @OptionalParam(name = "_id") TokenOrListParam ids,
            @OptionalParam(name = "identifier") TokenOrListParam identifiers,
            @OptionalParam(name = "patient", chainWhitelist = {"", "identifier"}) ReferenceParam patient,
            @OptionalParam(name = "subject", chainWhitelist = {"", "identifier"}) ReferenceParam subject) {
        return matching(ids, identifiers)
                .filter(resource -> patient == null || isAbout(resource, patient, "Patient"))
                .filter(resource -> subject == null || isAbout(resource, subject, subject.getResourceType()))
                .toList();
    }

    private boolean isAbout(Resource resource, ReferenceParam wanted, String type) {
        return Store.subjects(resource).map(reference -> (IdType) reference.getReferenceElement())
                .filter(id -> type == null || type.equals(id.getResourceType()))
                .anyMatch(id -> {
                    if (wanted.getChain() == null) {
                        return wanted.getIdPart().equals(id.getIdPart());
                    }
                    TokenParam identifier = wanted.toTokenParam(null);
                    return store.get(id.toUnqualifiedVersionless()).filter(it -> Store.bears(it, identifier)).isPresent();
                });
    }
}
