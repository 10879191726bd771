package peer;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.annotation.Transaction;
import ca.uhn.fhir.rest.annotation.TransactionParam;
import ca.uhn.fhir.rest.server.exceptions.InvalidRequestException;
import ca.uhn.fhir.rest.server.exceptions.UnprocessableEntityException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Bundle.BundleEntryComponent;
import org.hl7.fhir.r4.model.Bundle.BundleEntryRequestComponent;
import org.hl7.fhir.r4.model.Bundle.BundleType;
import org.hl7.fhir.r4.model.Bundle.HTTPVerb;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Reference;
import org.hl7.fhir.r4.model.Resource;
import org.hl7.fhir.r4.model.UriType;

/** Transactions of POST (conditional or not) and PUT: https://hl7.org/fhir/R4/http.html#transaction. */
public final class Transactions {

    /** What becomes of an entry: the id it is written under, or the resource that was already there. */
    private record Fate(IdType id, Optional<Resource> existing) {}

    private final FhirContext fhir;
    private final Store store;

    Transactions(FhirContext fhir, Store store) {
        this.fhir = fhir;
        this.store = store;
    }

    @Transaction
    public Bundle transaction(@TransactionParam Bundle bundle) {
        if (bundle.getType() != BundleType.TRANSACTION) {
            throw new InvalidRequestException("Only bundles of type transaction are taken here");
        }
        return store.allOrNothing(() -> write(bundle));
    }

    private Bundle write(Bundle bundle) {
        List<Fate> fates = new ArrayList<>();
        Map<String, IdType> idByFullUrl = new HashMap<>();
        Set<String> written = new HashSet<>();
        for (BundleEntryComponent entry : bundle.getEntry()) {
            Fate fate = fate(entry);
            fates.add(fate);
            if (fate.existing().isEmpty() && !written.add(fate.id().getValue())) {
                throw new InvalidRequestException("Two entries write the same resource");
            }
            if (entry.hasFullUrl() && idByFullUrl.put(entry.getFullUrl(), fate.id()) != null) {
                throw new InvalidRequestException("Two entries bear the same fullUrl");
            }
        }

        Bundle answer = new Bundle().setType(BundleType.TRANSACTIONRESPONSE);
        for (int index = 0; index < fates.size(); index++) {
            Resource resource = bundle.getEntry().get(index).getResource();
            Fate fate = fates.get(index);
            if (fate.existing().isEmpty()) {
                resolveLinks(resource, idByFullUrl);
                store.put(fate.id(), resource);
            }
            answer.addEntry(answerTo(fate.existing().orElse(resource), fate.existing().isPresent()));
        }
        return answer;
    }

    private Fate fate(BundleEntryComponent entry) {
        BundleEntryRequestComponent request = entry.getRequest();
        if (!entry.hasResource() || request.hasIfMatch() || request.hasIfNoneMatch()) {
            throw new InvalidRequestException("Entries need a resource, and may not have version conditions");
        }
        String type = entry.getResource().fhirType();
        if (request.getMethod() == HTTPVerb.POST) {
            Optional<Resource> existing =
                    request.hasIfNoneExist() ? store.match(type, request.getIfNoneExist()) : Optional.empty();
            return new Fate(existing.map(it -> new IdType(type, it.getIdElement().getIdPart()))
                            .orElseGet(() -> Store.newId(type)), existing);
        }
        IdType target = new IdType(request.getUrl());
        if (request.getMethod() == HTTPVerb.PUT && type.equals(target.getResourceType()) && target.hasIdPart()) {
            return new Fate(target.toUnqualifiedVersionless(), Optional.empty());
        }
        throw new InvalidRequestException("Only POST, and PUT to type/id, are supported in transactions");
    }

    /** Links to other entries become links to what was written; Attachment.url and the like are links too. */
    private void resolveLinks(Resource resource, Map<String, IdType> idByFullUrl) {
        for (Reference reference : fhir.newTerser().getAllPopulatedChildElementsOfType(resource, Reference.class)) {
            IdType target = idByFullUrl.get(reference.getReference());
            if (target != null) {
                // The parser has linked the reference to its entry, and that link would win over the text.
                reference.setResource(null);
                reference.setReference(target.getValue());
            } else if (reference.hasReference() && reference.getReference().startsWith("urn:")) {
                throw new UnprocessableEntityException("A reference points to no entry of the transaction");
            }
        }
        for (UriType uri : fhir.newTerser().getAllPopulatedChildElementsOfType(resource, UriType.class)) {
            IdType target = idByFullUrl.get(uri.getValue());
            if (target != null) {
                uri.setValue(target.getValue());
            }
        }
    }

    private static BundleEntryComponent answerTo(Resource written, boolean wasThere) {
        IdType id = (IdType) written.getIdElement();
        BundleEntryComponent entry = new BundleEntryComponent();
        entry.getResponse()
                .setStatus(!wasThere && id.getVersionIdPart().equals("1") ? "201 Created" : "200 OK")
                .setLocation(id.getValue())
                .setEtag("W/\"" + id.getVersionIdPart() + "\"")
                .setLastModified(written.getMeta().getLastUpdated());
        return entry;
    }
}
